/// Text from elsewhere (keys, reasons, names) on its way to a terminal.
enum DisplayText {
    /// Control characters and those that turn the direction of writing are shown, not obeyed. Line breaks too.
    static func escaped(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: isObeyed) else { return text }
        return text.unicodeScalars.map { isObeyed($0) ? "\\u{\(String($0.value, radix: 16))}" : String($0) }.joined()
    }

    private static func isObeyed(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x00...0x1f, 0x7f...0x9f, 0x2028...0x202e, 0x2066...0x2069, 0x200e, 0x200f, 0x061c: true
        default: false
        }
    }

    /// How many columns a terminal gives it: two for East Asian wide characters and emoji, one for others.
    static func columns(_ text: String) -> Int { text.reduce(0) { $0 + columns($1) } }

    private static func columns(_ character: Character) -> Int {
        guard let first = character.unicodeScalars.first else { return 0 }
        switch first.value {
        case 0x1100...0x115f, 0x2e80...0xa4cf, 0xac00...0xd7a3, 0xf900...0xfaff, 0xfe30...0xfe6f, 0xff00...0xff60,
            0xffe0...0xffe6, 0x1f300...0x1faff, 0x20000...0x3fffd:
            return 2
        default: return 1
        }
    }

    /// At most `max` columns, the middle replaced by `…`: keys differ at their ends.
    static func shortened(_ text: String, to max: Int) -> String {
        guard columns(text) > max else { return text }
        var head = ""
        var tail = ""
        var room = max - 1
        var front = text[...]
        var takesFront = true
        while let next = takesFront ? front.first : front.last, columns(next) <= room {
            room -= columns(next)
            if takesFront {
                head.append(next)
                front.removeFirst()
            } else {
                tail.insert(next, at: tail.startIndex)
                front.removeLast()
            }
            takesFront.toggle()
        }
        return head + "…" + tail
    }
}
