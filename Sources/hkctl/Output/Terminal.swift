import Glibc

/// What standard output is.
struct Terminal: Sendable {
    /// Nil where lines may be of any length: in files and pipes.
    var columns: Int?
    /// Whether it understands bold letters.
    var isStyled: Bool

    static var current: Terminal {
        let isTerminal = isatty(STDOUT_FILENO) == 1
        // COLUMNS is a shell's own variable; one that is exported was meant for its children.
        var columns = GlobalOptions.environment("COLUMNS").flatMap(Int.init)
        if columns == nil, isTerminal {
            var size = winsize()
            if ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 { columns = Int(size.ws_col) }
        }
        return Terminal(
            columns: columns.map { max($0, ControlLimits.terminalColumnsMin) },
            isStyled: isTerminal && GlobalOptions.environment("NO_COLOR") == nil
                && GlobalOptions.environment("TERM") != "dumb")
    }

    func bold(_ text: String) -> String { isStyled ? "\u{1b}[1m\(text)\u{1b}[0m" : text }
}
