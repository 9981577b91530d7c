import HotKeySimulation
import Testing

@Suite struct TraceReaderTests {
    /// The keys of a line, each with its reads and writes.
    private func keys(_ line: TraceLine) -> [String] {
        guard case .request(let request) = line else { return ["\(line)"] }
        return request.accesses.map { "\(String(decoding: $0.key, as: UTF8.self)) \($0.reads)/\($0.writes)" }
    }

    private func monitor(_ line: String) throws -> TraceLine {
        var reader = TraceReader(format: .monitor)
        return try reader.read(bytes(line))
    }

    @Test func monitorLinesOfEveryFormAreRead() throws {
        let client = "1795444862.336922 [0 127.0.0.1:43674] "
        #expect(try keys(monitor(client + #""get" "item:42""#)) == ["item:42 1/0"])
        #expect(try keys(monitor(client + #""SET" "k" "v" "EX" "5""#)) == ["k 0/1"])
        #expect(try keys(monitor(client + #""mget" "a" "b" "a""#)) == ["a 1/0", "b 1/0", "a 1/0"])
        #expect(try keys(monitor(client + #""mset" "a" "1" "b" "2""#)) == ["a 0/1", "b 0/1"])
        #expect(try keys(monitor(client + #""eval" "return redis.call(\"GET\", KEYS[1])" "1" "s""#)) == ["s 0/1"])
        #expect(try keys(monitor(client + #""object" "encoding" "h""#)) == ["h 1/0"])
        #expect(try keys(monitor(client + #""get" """#)) == [" 1/0"])
        // A Unix socket's path may hold anything.
        #expect(try keys(monitor(#"1.5 [3 unix:/tmp/a] b.sock] "get" "k""#)) == ["k 1/0"])
        #expect(try keys(monitor(#"1.5 [0 [::1]:50000] "get" "k""#)) == ["k 1/0"])
        #expect(try monitor(#"1795444862.356763 [0 lua] "GET" "s""#) == .ofScript)
        for keyless in [#""ping""#, #""SELECT" "3""#, #""config" "get" "maxmemory""#, #""multi""#] {
            #expect(try monitor(client + keyless) == .withoutKeys, "\(keyless)")
        }
        #expect(try monitor(client + #""ft.search" "index" "*""#) == .unknownCommand)
        #expect(try monitor("OK") == .blank)
        #expect(try monitor("") == .blank)
        #expect(try monitor("\r") == .blank)
    }

    @Test func monitorsEscapesAreTakenBack() throws {
        let line = #"1795444862.336922 [0 127.0.0.1:43674] "set" "a b\"c\\d\x01\xff\n\r\t\a\b" "v""#
        guard case .request(let request) = try monitor(line) else {
            Issue.record("no request")
            return
        }
        #expect(request.nanoseconds == 1_795_444_862_336_922_000)
        #expect(request.accesses.map(\.key) == [bytes("a b\"c\\d") + [0x01, 0xff, 0x0a, 0x0d, 0x09, 0x07, 0x08]])
        #expect(request.accesses[0].writes == 1 && !request.accesses[0].isRepeatable)
    }

    @Test func whatTheMemoryAndACopyMayAnswerIsTold() throws {
        func answers(_ command: String) throws -> [Bool] {
            guard case .request(let request) = try monitor("1.5 [0 h:1] " + command) else { return [] }
            return [request.accesses[0].isRepeatable, request.accesses[0].isCopyRead]
        }
        #expect(try answers(#""get" "k""#) == [true, true])
        #expect(try answers(#""mget" "k" "l""#) == [true, true])
        #expect(try answers(#""hgetall" "k""#) == [true, false])
        #expect(try answers(#""srandmember" "k""#) == [false, false])
        #expect(try answers(#""sinter" "k" "l""#) == [false, false])
        #expect(try answers(#""incr" "k""#) == [false, false])
    }

    @Test(arguments: [
        (#"yesterday [0 h:1] "get" "k""#, "a line of MONITOR such as"),
        (#"1.5 "get" "k""#, "a database and a client in brackets"),
        (#"1.5 [0 h:1]"#, "a database and a client in brackets"), (#"1.5 [0 h:1] "get" k"#, "an argument in quotes"),
        (#"1.5 [0 h:1] "get" "k"#, "a quote that closes the last argument"),
        (#"1.5 [0 h:1] "get" "\q""#, "an escape of MONITOR"), (#"1.5 [0 h:1] "get" "\x1""#, "an escape of MONITOR"),
        (#"1.5 [0 h:1] "get""k""#, "a space between two arguments"),
        (#"99999999999.5 [0 h:1] "get" "k""#, "a line of MONITOR such as"),
        (#"1.1234567890 [0 h:1] "get" "k""#, "a line of MONITOR such as"),
    ])
    func badMonitorLinesSayWhatWasExpected(line: String, expected: String) {
        #expect { try monitor(line) } throws: { "\($0)".hasPrefix("expected \(expected)") }
    }

    @Test func aLineThatWasCutKeepsTheKeysThatStandBeforeTheCut() throws {
        for cut in [#"1.5 [0 h:1] "set" "k" "vvvvv"#, #"1.5 [0 h:1] "set" "k" "vvv\x0"#, #"1.5 [0 h:1] "set" "k" "v\"#]
        {
            var reader = TraceReader(format: .monitor)
            #expect(try keys(reader.read(bytes(cut), isCut: true)) == ["k 0/1"])
        }
    }

    @Test func csvIsReadByItsHead() throws {
        var reader = TraceReader(format: .csv)
        #expect(try reader.read(bytes("OP,,key,time,count,bytes,misses\r")) == .blank)
        guard case .request(let request) = try reader.read(bytes(#"GET,ignored,"a ""b"", c",12.25,3,100,2"#)) else {
            Issue.record("no request")
            return
        }
        #expect(request.nanoseconds == 12_250_000_000)
        #expect(
            request.accesses == [TraceRequest.Access(key: bytes("a \"b\", c"), reads: 3, replyBytes: 100, misses: 2)])
        #expect(try keys(reader.read(bytes("write,,k,13,,,0"))) == ["k 0/1"])
        #expect(try keys(reader.read(bytes("hset,,k,13,2,,"))) == ["k 0/2"])
        #expect(try keys(reader.read(bytes(",,k,13,0,,"))) == ["k 0/0"])
    }

    @Test(arguments: [
        ("time,kye", "the name of a column (time, key, op, count, bytes, misses) or nothing, found \"kye\""),
        ("time,time,key", "each column once"), ("time,op", "a column \"key\" in the first line"),
        ("key,op", "a column \"time\" in the first line"), ("\"time,key", "a quote that closes the field"),
    ])
    func badHeadsSayWhatWasExpected(head: String, expected: String) {
        var reader = TraceReader(format: .csv)
        #expect { try reader.read(bytes(head)) } throws: { "\($0)".contains(expected) }
    }

    @Test(arguments: [
        ("1.5,k,read,1", "5 fields as in the first line, found 4"), ("-1,k,read,1,1", "time: seconds such as"),
        ("1e3,k,read,1,1", "time: seconds such as"),
        ("1.5,k,scan,1,1", "op: read, write or the name of a Redis command"),
        ("1.5,k,ping,1,1", "op: read, write"), ("1.5,k,read,-1,1", "count: a whole number up to 1000000"),
        ("1.5,k,read,1000001,1", "count: a whole number up to 1000000"), ("1.5,k,read,1,x", "bytes: a whole number"),
        ("1.5,k,read,3,1,4", "misses: a whole number up to 3"), ("1.5,k,write,3,1,1", "misses: a whole number up to 0"),
        (#"1.5,"k,read,1,1"#, "a quote that closes the field on its line"),
        (#"1.5,"k"x,read,1,1"#, "a comma behind a closing quote"),
    ])
    func badCSVLinesSayWhatWasExpected(line: String, expected: String) throws {
        var reader = TraceReader(format: .csv)
        let isLong = line.split(separator: ",").count == 6
        _ = try reader.read(bytes("time,key,op,count,bytes" + (isLong ? ",misses" : "")))
        #expect { try reader.read(bytes(line)) } throws: { "\($0)".contains(expected) }
    }

    @Test func theFormIsToldFromTheFirstLine() throws {
        for (line, format) in [
            ("OK", TraceFormat.monitor), (#"1.5 [0 h:1] "get" "k""#, .monitor), ("time,key", .csv),
            ("key,time,,op", .csv),
        ] {
            var reader = TraceReader(format: nil)
            #expect(try reader.read(bytes("")) == .blank)
            #expect(reader.format == nil)
            _ = try reader.read(bytes(line))
            #expect(reader.format == format)
        }
        var reader = TraceReader(format: nil)
        #expect { try reader.read(bytes("1.5,k")) } throws: {
            "\($0)".hasPrefix("expected a line of MONITOR") && "\($0)".contains("or a head of CSV")
        }
    }
}
