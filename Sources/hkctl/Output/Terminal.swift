import Glibc

/// What standard output is.
struct Terminal: Sendable {
    /// Nil where lines may be of any length: in files and pipes.
    var columns: Int?
    /// Whether it understands bold letters.
    var isStyled: Bool
    /// Whether people look at it while it is written, and it understands how to start anew at the top.
    var isScreen = false

    static var isStandardErrorTerminal: Bool { isatty(STDERR_FILENO) == 1 }

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
                && GlobalOptions.environment("TERM") != "dumb",
            isScreen: isTerminal && GlobalOptions.environment("TERM") != "dumb")
    }

    /// What takes the place of what stood there.
    func screen(_ text: String) -> String { isScreen ? "\u{1b}[H\u{1b}[J\(text)" : text }

    func bold(_ text: String) -> String { isStyled ? "\u{1b}[1m\(text)\u{1b}[0m" : text }
}
