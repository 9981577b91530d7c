import Foundation
import HotKeyTestSupport
import Testing

/// pin, unpin, deny, undeny, list, get and history.
@Suite struct DecisionTests {
    @Test func pinnedKeysAreListedAndShown() async throws {
        let hkctl = try await HKCtl.initialised()
        #expect(try await hkctl.done("list") == "No key is hot, pinned or denied in shop.\n")
        let said = try await hkctl.done(
            "pin", "item:42", "--copies", "2", "--ttl", "1h30m", "--reason", "for the launch")
        #expect(said == "Pinned item:42 (\(hkctl.root)/shop/pins version 1)\n")

        let lines = try await hkctl.done("list").split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines[0].hasPrefix("KEY      STATE   KIND"))
        #expect(lines[1].hasPrefix("item:42  pinned  -"))
        #expect(lines[1].contains("by ann: for the launch (ends in 1h29m"))

        let list = try await hkctl.json("list")
        #expect(list.fields == ["app", "coordinator", "epoch", "keys", "problems", "publishedAt", "readAt", "version"])
        let row = try #require(list["keys"]?[0])
        #expect(row["key"] == "item:42" && row["state"] == "pinned" && row["copies"] == 2)
        #expect(row["pin"]?["author"] == "ann" && row["pin"]?["reason"] == "for the launch")

        let text = try await hkctl.done("get", "item:42")
        #expect(text.contains("state   pinned\n") && text.contains("copies  2\n"))
        let get = try await hkctl.json("get", "item:42")
        #expect(get.fields == ["app", "readAt", "record", "znode"])
        #expect(get["record"]?["pin"]?["copies"] == 2)
        #expect(get["znode"]?.text?.hasPrefix("\(hkctl.root)/shop/hot/") == true)
        #expect(try await hkctl.json("get", "other")["record"]?["state"] == "cold")
    }

    @Test func theLatestDecisionCountsAndHistoryTellsAll() async throws {
        let hkctl = try await HKCtl.initialised()
        try await hkctl.done("pin", "k")
        #expect(try await hkctl.done("deny", "k", "--ttl", "10m", "--reason", "noise").hasPrefix("Denied k ("))
        #expect(try await hkctl.json("get", "k")["record"]?["state"] == "denied")
        #expect(try await hkctl.done("unpin", "k") == "k was not pinned: nothing changed\n")
        #expect(try await hkctl.done("undeny", "k").hasPrefix("Took back the deny of k ("))
        #expect(try await hkctl.done("undeny", "k") == "k was not denied: nothing changed\n")
        try await hkctl.done("pin", "k")
        let unpinned = try await hkctl.json("unpin", "k", "--reason", "over")
        #expect(unpinned.fields == ["app", "changed", "key", "verb", "version", "znode"])
        #expect(unpinned["changed"] == true && unpinned["verb"] == "unpin")
        #expect(try await hkctl.json("unpin", "k")["changed"] == false)

        let history = try await hkctl.json("history")
        let verbs = try #require(history["history"]).items.compactMap { $0["verb"]?.text }
        #expect(verbs == ["unpin", "pin", "undeny", "deny", "pin"])
        #expect(history["history"]?[0]?["reason"] == "over" && history["history"]?[0]?["author"] == "ann")
        let lines = try await hkctl.done("history", "--limit", "2").split(separator: "\n")
        #expect(lines.count == 3)
        #expect(lines[1].hasSuffix("ann     unpin  k    -       over"))
    }

    /// A key's name is bytes; a terminal must obey none of them.
    @Test func keysThatAreNotText() async throws {
        let hkctl = try await HKCtl.initialised()
        try await hkctl.done("pin", "/wAB", "--key-base64")
        #expect(try await hkctl.json("list")["keys"]?[0]?["key"]?["b64"] == "/wAB")
        #expect(try await hkctl.done("list").contains("\\xff\\x00\\x01  pinned"))
        #expect(try await hkctl.json("unpin", "--key-base64", "/wAB")["changed"] == true)

        try await hkctl.done("deny", "bell\u{7}", "--reason", "red \u{1b}[31m and\nmore")
        let table = try await hkctl.done("list") + hkctl.done("history")
        #expect(!table.contains("\u{7}") && !table.contains("\u{1b}"))
        #expect(table.contains("red \\u{1b}[31m and\\u{a}more"))
        // "--" ends the options: a key may look like one.
        try await hkctl.done("pin", "--", "--output")
        #expect(try await hkctl.json("get", "--key-base64", "LS1vdXRwdXQ=")["record"]?["state"] == "pinned")
    }

    @Test func tablesLineUpAndFit() async throws {
        var hkctl = try await HKCtl.initialised()
        let long = "session:" + String(repeating: "0123456789", count: 30) + ":tail"
        try await hkctl.done("pin", long)
        try await hkctl.done("pin", "商品:42")
        try await hkctl.done("deny", "short", "--reason", String(repeating: "because ", count: 20))
        hkctl.environment["COLUMNS"] = "90"
        let lines = try await hkctl.done("list").split(separator: "\n")
        #expect(lines.count == 4)
        #expect(lines.allSatisfy { $0.count <= 90 }, "\(lines)")
        #expect(lines.contains { $0.hasPrefix("session:") || $0.contains("…") && $0.contains(":tail") })
        let header = try #require(lines[0].range(of: "STATE")?.lowerBound)
        let column = lines[0].distance(from: lines[0].startIndex, to: header)
        for line in lines.dropFirst() {
            // Each of the two ideographs takes two columns of the terminal.
            let wide = line.filter { "商品".contains($0) }.count
            #expect(
                line.dropFirst(column - wide).hasPrefix("pinned") || line.dropFirst(column).hasPrefix("denied"),
                "\(line)")
        }
        // Into a file or a pipe nothing is shortened.
        hkctl.environment["COLUMNS"] = nil
        #expect(try await hkctl.done("list").contains(long))
    }

    /// Compare-and-set: everyone writes the same document at the same time and nobody's change is lost.
    @Test func concurrentPinsAreAllKept() async throws {
        let hkctl = try await HKCtl.initialised()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<20 {
                group.addTask { try await hkctl.done("pin", "key:\(number)", "--timeout", "30s") }
            }
            try await group.waitForAll()
        }
        let keys = try #require(try await hkctl.json("list")["keys"]).items.compactMap { $0["key"]?.text }
        #expect(Set(keys) == Set((0..<20).map { "key:\($0)" }))
        #expect(try await hkctl.json("history")["history"]?.items.count == 20)
    }

    @Test func expiredDecisionsCountForNothing() async throws {
        let hkctl = try await HKCtl.initialised()
        try await hkctl.done("pin", "k", "--ttl", "1ms")
        #expect(try await hkctl.json("get", "k")["record"]?["state"] == "cold")
        #expect(try await hkctl.json("list")["keys"]?.items.isEmpty == true)
    }
}
