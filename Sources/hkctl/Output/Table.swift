/// Rows that line up. Fits a terminal by shortening the columns that may be shortened, one after the other.
struct Table {
    struct Column {
        var title: String
        var isNumber = false
        /// Lower is shortened first; nil is never shortened.
        var shorteningOrder: Int?

        static func text(_ title: String) -> Column { Column(title: title) }
        static func number(_ title: String) -> Column { Column(title: title, isNumber: true) }
        static func key(_ title: String) -> Column { Column(title: title, shorteningOrder: 0) }
        static func freeText(_ title: String) -> Column { Column(title: title, shorteningOrder: 1) }
    }

    var columns: [Column]
    var rows: [[String]] = []

    private static let gap = "  "

    mutating func add(_ cells: String...) {
        precondition(cells.count == columns.count, "a row has one cell a column")
        rows.append(cells.map(DisplayText.escaped))
    }

    func text(_ terminal: Terminal) -> String {
        let widths = widths(terminal)
        var text = terminal.bold(line(columns.map(\.title), widths)) + "\n"
        for row in rows { text += line(row, widths) + "\n" }
        return text
    }

    private func widths(_ terminal: Terminal) -> [Int] {
        var widths = columns.indices.map { index in
            rows.reduce(DisplayText.columns(columns[index].title)) { max($0, DisplayText.columns($1[index])) }
        }
        guard let available = terminal.columns else { return widths }
        let shortenable = columns.indices.filter { columns[$0].shorteningOrder != nil }
            .sorted { columns[$0].shorteningOrder ?? 0 < columns[$1].shorteningOrder ?? 0 }
        for index in shortenable {
            let excess = widths.reduce(0, +) + Self.gap.count * (widths.count - 1) - available
            guard excess > 0 else { break }
            widths[index] = min(widths[index], max(widths[index] - excess, ControlLimits.shortenedColumnsMin))
        }
        return widths
    }

    private func line(_ cells: [String], _ widths: [Int]) -> String {
        var line = ""
        for (index, cell) in cells.enumerated() {
            let cell = DisplayText.shortened(cell, to: widths[index])
            let padding = String(repeating: " ", count: widths[index] - DisplayText.columns(cell))
            if index > 0 { line += Self.gap }
            line += columns[index].isNumber ? padding + cell : cell + padding
        }
        while line.last == " " { line.removeLast() }
        return line
    }
}

/// Names and values, one pair a line, the values under each other.
struct Fields {
    private var pairs: [(name: String, value: String)] = []

    /// Nil is left out.
    mutating func add(_ name: String, _ value: String?) {
        if let value { pairs.append((name, DisplayText.escaped(value))) }
    }

    func text(_ terminal: Terminal) -> String {
        let width = pairs.map(\.name.count).max() ?? 0
        return pairs.map { pair in
            terminal.bold(pair.name) + String(repeating: " ", count: width - pair.name.count + 2) + pair.value + "\n"
        }.joined()
    }
}
