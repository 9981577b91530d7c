import HotKeyRegistry
import StrictCoding
import Testing

@Suite struct SchemaTests {
    private func roundTrip<Document: RegistryDocument>(_ document: Document, _ json: String) throws {
        let bytes = try RegistryCodec.encode(document, source: "node")
        #expect(bytes.text == json)
        #expect(try RegistryCodec.decode(Document.self, from: bytes, source: "node") == document)
    }

    private func refusal<Document: RegistryDocument>(_ type: Document.Type, _ json: String) -> DocumentError? {
        do {
            _ = try RegistryCodec.decode(type, from: Array(json.utf8), source: "node")
            return nil
        } catch {
            return error
        }
    }

    @Test func documentsAreWrittenAsDocumented() throws {
        try roundTrip(AppDocument(), #"{"schema":1}"#)
        try roundTrip(
            ControlDocument(), #"{"detection":"embedded","mode":"mitigate","schema":1,"stalenessCapMilliseconds":5000}"#
        )
        try roundTrip(RulesDocument(), #"{"rules":[{"pattern":"*"}],"schema":1}"#)
        try roundTrip(
            PinsDocument(
                pins: [
                    PinEntry(
                        key: "item:42", copies: 3, author: "ann", reason: "launch", at: start,
                        expiresAt: start.advanced(by: .seconds(7_200)))
                ],
                history: [HistoryEntry(at: start, author: "ann", verb: .pin, key: "item:42", reason: "launch")]),
            #"{"denies":[],"history":[{"at":"2026-11-22T10:00:00Z","author":"ann","key":"item:42","reason":"launch","verb":"pin"}],"pins":[{"at":"2026-11-22T10:00:00Z","author":"ann","copies":3,"expiresAt":"2026-11-22T12:00:00Z","key":"item:42","reason":"launch"}],"schema":1}"#
        )
        try roundTrip(
            TopologyDocument(nodes: [.init(name: "a", address: "10.0.0.1:6379")], hashTag: "{}"),
            #"{"distribution":"ketama","hash":"fnv1a_64","hashTag":"{}","kind":"nodes","nodes":[{"address":"10.0.0.1:6379","name":"a","weight":1}],"schema":1}"#
        )
        try roundTrip(
            TopologyDocument(kind: .cluster, nodes: [.init(name: "a", address: "10.0.0.1:6379")]),
            #"{"kind":"cluster","nodes":[{"address":"10.0.0.1:6379","name":"a","weight":1}],"schema":1}"#)
        try roundTrip(
            HotBucket(version: 912, keys: [record("item:42")]),
            #"{"keys":[{"copies":3,"errorPerSecond":12,"key":"item:42","kind":"read","readsPerSecond":5230,"since":"2026-11-22T10:00:00Z","sources":["agents"],"state":"hot"}],"schema":1,"version":912}"#
        )
        try roundTrip(
            SourceDocument(candidates: [
                .init(key: "item:7", readsPerSecond: 2_100.5, writesPerSecond: 3, expiresAt: start)
            ]),
            #"{"candidates":[{"bytesPerSecond":0,"errorPerSecond":0,"expiresAt":"2026-11-22T10:00:00Z","key":"item:7","missesPerSecond":0,"readsPerSecond":2100.5,"writesPerSecond":3}],"grade":"exact","schema":1}"#
        )
        try roundTrip(
            AgentDocument(peer: "10.0.0.5:7380", version: "0.1.0", startedAt: start),
            #"{"peer":"10.0.0.5:7380","schema":1,"startedAt":"2026-11-22T10:00:00Z","version":"0.1.0"}"#)
        try roundTrip(LeaderDocument(agent: "host-1"), #"{"agent":"host-1","schema":1}"#)
    }

    @Test func aRuleStatesWhatDiffersFromTheDefaults() throws {
        let other = Rule(
            pattern: "a", thresholdPerSecond: 1, thresholdShareOfNode: 0.5, thresholdFloorPerSecond: 1,
            thresholdBytesPerSecond: 2, windowMilliseconds: 900, confirmSlices: 3, confirmOfSlices: 4,
            instantMultiple: 5, leaveRatio: 0.5, coolDownSeconds: 6, minimumHotSeconds: 7, reentrySeconds: 8,
            writeHotRatio: 0.9, missingHotRatio: 0.7, action: .cache, copies: 1, copiesByHeat: true,
            replicaReads: true,
            stalenessCapMilliseconds: 10, staleOnErrorCapSeconds: 0, missIntervalMilliseconds: 250,
            missHoldMilliseconds: 750)
        try roundTrip(
            RulesDocument(rules: [other]),
            #"{"rules":[{"action":"cache","confirmOfSlices":4,"confirmSlices":3,"coolDownSeconds":6,"copies":1,"copiesByHeat":true,"instantMultiple":5,"leaveRatio":0.5,"minimumHotSeconds":7,"missHoldMilliseconds":750,"missIntervalMilliseconds":250,"missingHotRatio":0.7,"pattern":"a","reentrySeconds":8,"replicaReads":true,"staleOnErrorCapSeconds":0,"stalenessCapMilliseconds":10,"thresholdBytesPerSecond":2,"thresholdFloorPerSecond":1,"thresholdPerSecond":1,"thresholdShareOfNode":0.5,"windowMilliseconds":900,"writeHotRatio":0.9}],"schema":1}"#
        )
        // All fields written out, as earlier versions did, say the same.
        let full =
            #"{"rules":[{"action":"both","confirmOfSlices":3,"confirmSlices":2,"coolDownSeconds":15,"copies":3,"copiesByHeat":false,"instantMultiple":10,"leaveRatio":0.4,"minimumHotSeconds":30,"missHoldMilliseconds":0,"missIntervalMilliseconds":100,"missingHotRatio":0.8,"pattern":"*","reentrySeconds":60,"replicaReads":false,"staleOnErrorCapSeconds":60,"stalenessCapMilliseconds":1000,"thresholdBytesPerSecond":67108864,"thresholdFloorPerSecond":100,"thresholdPerSecond":1000,"thresholdShareOfNode":0,"windowMilliseconds":1000,"writeHotRatio":0.1}],"schema":1}"#
        #expect(try RegistryCodec.decode(RulesDocument.self, from: Array(full.utf8), source: "node") == RulesDocument())
    }

    @Test func aDocumentHoldsAsManyRulesAsThereMayBe() throws {
        let rules = (0..<RegistryLimits.rulesMax).map { Rule(pattern: "item:\($0):*", thresholdPerSecond: 100 + $0) }
        let bytes = try RegistryCodec.encode(RulesDocument(rules: rules), source: "node")
        #expect(bytes.count <= RegistryLimits.rulesBytesMax)
    }

    @Test func theHeadCarriesChangesInOneMappingEach() throws {
        var buckets = [Int64](repeating: 0, count: 64)
        buckets[KeyName("item:42").bucket] = 912
        let head = HotHead(
            epoch: 3, version: 912, publishedAt: start, coordinator: "host-1", buckets: buckets,
            changes: [
                HotChange(version: 912, key: "item:42", record: record("item:42")),
                HotChange(version: 911, key: "x", record: nil),
            ])
        let text = try RegistryCodec.encode(head, source: "hot").text
        #expect(text.contains(#"{"key":"x","state":"cold","version":911}"#))
        #expect(text.contains(#""state":"hot","version":912}"#))
        #expect(try RegistryCodec.decode(HotHead.self, from: Array(text.utf8), source: "hot") == head)
    }

    @Test func everyFieldOfARuleButThePatternHasADefault() throws {
        let rules = try RegistryCodec.decode(
            RulesDocument.self, from: Array("schema: 1\nrules:\n- pattern: 'user:*'\n".utf8), source: "rules.yaml")
        #expect(rules.rules == [Rule(pattern: "user:*")])
        let control = try RegistryCodec.decode(
            ControlDocument.self, from: Array(#"{"schema":1,"mode":"off"}"#.utf8), source: "control")
        #expect(control == ControlDocument(mode: .off))
    }

    @Test func badDocumentsAreRefusedWithLineAndField() {
        func expect<Document: RegistryDocument>(
            _ type: Document.Type, _ json: String, _ code: DocumentError.Code, _ path: String, _ line: Int = 1,
            sourceLocation: SourceLocation = #_sourceLocation
        ) {
            let error = refusal(type, json)
            #expect(error?.code == code, "\(error.map(String.init) ?? "accepted")", sourceLocation: sourceLocation)
            #expect(error?.path == path, "\(error.map(String.init) ?? "accepted")", sourceLocation: sourceLocation)
            #expect(error?.line == line, "\(error.map(String.init) ?? "accepted")", sourceLocation: sourceLocation)
        }
        expect(ControlDocument.self, #"{"schema":2,"mode":"new","more":1}"#, .unknownSchema, "schema")
        expect(ControlDocument.self, #"{"mode":"off"}"#, .missingField, "schema")
        expect(ControlDocument.self, "{\"schema\":1,\n\"mode\":\"on\"}", .invalidValue, "mode", 2)
        expect(
            RulesDocument.self, "{\"schema\":1,\"rules\":[{\"pattern\":\"*\"},\n{\"pattern\":\"b\",\"copies\":65}]}",
            .invalidValue, "rules[1].copies", 2)
        expect(
            RulesDocument.self, "{\"schema\":1,\"rules\":[{\"pattern\":\"*\"},\n{\"pattern\":\"*\"}]}", .invalidValue,
            "rules[1].pattern", 2)
        expect(
            RulesDocument.self, #"{"schema":1,"rules":[{"pattern":"*","confirmSlices":4}]}"#, .invalidValue,
            "rules[0].confirmSlices")
        expect(
            RulesDocument.self, #"{"schema":1,"rules":[{"pattern":"*","thresholdShareOfNode":5}]}"#, .invalidValue,
            "rules[0].thresholdShareOfNode")
        expect(
            RulesDocument.self,
            #"{"schema":1,"rules":[{"pattern":"*","thresholdPerSecond":50,"thresholdShareOfNode":0.1}]}"#,
            .invalidValue,
            "rules[0].thresholdFloorPerSecond")
        expect(
            RulesDocument.self, #"{"schema":1,"rules":[{"pattern":"*","missHoldMilliseconds":99}]}"#, .invalidValue,
            "rules[0].missIntervalMilliseconds")
        expect(
            RulesDocument.self, #"{"schema":1,"rules":[{"pattern":"*","missingHotRatio":0}]}"#, .invalidValue,
            "rules[0].missingHotRatio")
        expect(
            RulesDocument.self, #"{"schema":1,"rules":[{"pattern":"*","windowMilliseconds":350}]}"#, .invalidValue,
            "rules[0].windowMilliseconds")
        expect(
            PinsDocument.self, #"{"schema":1,"pins":[{"key":{"b64":"%%"},"author":"a","at":"2026-11-22T10:00:00Z"}]}"#,
            .invalidValue, "pins[0].key.b64")
        expect(PinsDocument.self, #"{"schema":1,"pins":[{"key":7}]}"#, .invalidValue, "pins[0].key")
        expect(
            PinsDocument.self, #"{"schema":1,"pins":[{"key":"k","author":"a","at":"yesterday"}]}"#, .invalidValue,
            "pins[0].at")
        let pin = #"{"key":"k","author":"a","at":"2026-11-22T10:00:00Z"}"#
        expect(PinsDocument.self, #"{"schema":1,"denies":[\#(pin),\#(pin)]}"#, .invalidValue, "denies[1].key")
        expect(
            TopologyDocument.self, #"{"schema":1,"nodes":[{"name":"a","address":"x"}]}"#, .invalidValue,
            "nodes[0].address")
        expect(TopologyDocument.self, #"{"schema":1,"nodes":[]}"#, .invalidValue, "nodes")
        expect(
            TopologyDocument.self,
            #"{"schema":1,"kind":"cluster","hash":"md5","nodes":[{"name":"a","address":"h:1"}]}"#,
            .invalidValue, "hash")
        expect(
            HotHead.self, #"{"schema":1,"epoch":1,"version":1,"publishedAt":"2026-11-22T10:00:00Z","buckets":[0]}"#,
            .invalidValue, "buckets")
        let keys = "\"keys\":[{\"key\":\"k\",\"state\":\"cold\",\"since\":\"2026-11-22T10:00:00Z\"}]"
        expect(HotBucket.self, "{\"schema\":1,\"version\":1,\(keys)}", .invalidValue, "keys[0].state")
        expect(
            AgentDocument.self, #"{"schema":1,"peer":"h:0","version":"1","startedAt":"x"}"#, .invalidValue, "startedAt")
    }

    @Test func capsHoldForReadingAndWriting() throws {
        let long = String(repeating: "x", count: 1_000)
        let pins = (0..<600).map { PinEntry(key: KeyName("\($0)\(long)"), author: "a", at: start) }
        #expect {
            try RegistryCodec.encode(PinsDocument(pins: pins), source: "pins")
        } throws: {
            ($0 as? DocumentError)?.code == .tooLarge
        }
        #expect(refusal(ControlDocument.self, String(repeating: " ", count: 1_025))?.code == .tooLarge)
        #expect {
            try RegistryCodec.encode(
                PinsDocument(pins: [PinEntry(key: KeyName(long + long), author: "a", at: start)]), source: "pins")
        } throws: {
            ($0 as? DocumentError)?.path == "pins[0].key"
        }
        #expect(PinsDocument.bytesMax == 524_288 && HotHead.bytesMax == 16_384 && HotBucket.bytesMax == 65_536)
    }

    @Test func keysThatAreNotUTF8StandInBase64() throws {
        let key = KeyName([0xff, 0x00, 0x61])
        let bytes = try RegistryCodec.encode(
            PinsDocument(pins: [PinEntry(key: key, author: "a", at: start)]), source: "pins")
        #expect(bytes.text.contains(#""key":{"b64":"/wBh"}"#))
        #expect(try RegistryCodec.decode(PinsDocument.self, from: bytes, source: "pins").pins[0].key == key)
        #expect(key.description == "\\xff\\x00a")
        // The same letter in two spellings: two keys.
        #expect(KeyName("\u{e9}") != KeyName("e\u{301}"))
        #expect(KeyName("a") < KeyName("aa") && KeyName("Z") < KeyName("a"))
    }

    @Test func bucketsAreTheLowBitsOfFNV1a() {
        // Known answers of 64-bit FNV-1a: "" cbf29ce484222325, "a" af63dc4c8601ec8c, "foobar" 85944171f73967e8.
        #expect(KeyName("").bucket == 0x25)
        #expect(KeyName("a").bucket == 0x0c)
        #expect(KeyName("foobar").bucket == 0x28)
    }

    @Test func timesAreRFC3339() {
        #expect(Timestamp("2026-11-22T10:00:00Z")?.millisecondsSince1970 == 1_795_341_600_000)
        #expect(Timestamp("2026-11-22T12:30:00.1239+02:30") == start.advanced(byMilliseconds: 123))
        #expect(start.advanced(byMilliseconds: 5).description == "2026-11-22T10:00:00.005Z")
        #expect(Timestamp(millisecondsSince1970: -1).description == "1969-12-31T23:59:59.999Z")
        #expect(Timestamp(millisecondsSince1970: 0).description == "1970-01-01T00:00:00Z")
        #expect(Timestamp("2024-02-29T00:00:00Z")?.description == "2024-02-29T00:00:00Z")
        for bad in [
            "", "2026-11-22", "2026-11-22T10:00:00", "2026-13-22T10:00:00Z", "2023-02-29T10:00:00Z",
            "2026-11-22T24:00:00Z", "2026-11-22T10:00:00.Z", "2026-11-22T10:00:00Zx", "2026-11-22 10:00:00Z",
        ] { #expect(Timestamp(bad) == nil, "\(bad)") }
        for _ in 0..<1_000 {
            let time = Timestamp(millisecondsSince1970: .random(in: -62_000_000_000_000...253_000_000_000_000))
            #expect(Timestamp(time.description) == time)
        }
    }

    @Test func pathsAndNamesAreChecked() throws {
        let paths = try RegistryPaths(root: "/a/hotkeys", app: "shop")
        #expect(paths.bucket(0) == "/a/hotkeys/shop/hot/00" && paths.bucket(63) == "/a/hotkeys/shop/hot/3f")
        #expect(paths.agent(try AgentID("host-1.example")) == "/a/hotkeys/shop/agents/host-1.example")
        for root in ["", "/", "hotkeys", "/hotkeys/", "/a//b", "/a/../b", "/zookeeper/x", "/a b"] {
            #expect(throws: RegistryError.self) { try RegistryPaths(root: root, app: "shop") }
        }
        for app in ["", "..", "a/b", "a b", String(repeating: "a", count: 65)] {
            #expect(throws: RegistryError.self) { try RegistryPaths(app: app) }
        }
        for id in ["", ".", "a/b", String(repeating: "a", count: 129)] {
            #expect(throws: RegistryError.self) { try AgentID(id) }
        }
    }

    @Test func aStateOfCopiesStandsBesideTheirNumber() throws {
        for state in CopyState.allCases {
            let record = HotRecord(
                key: "a", state: .hot, copies: 2, copyState: state, since: Timestamp("2026-11-22T10:00:00Z")!)
            let text =
                #"{"keys":[{"copies":2,"copyState":"\#(state.rawValue)","key":"a","kind":"read","readsPerSecond":0,"since":"2026-11-22T10:00:00Z","state":"hot"}],"schema":1,"version":1}"#
            #expect(HotBucket.scan(Array(text.utf8))?.keys == [record])
            try roundTrip(HotBucket(version: 1, keys: [record]), text)
        }
        for copies in ["", #""copies":0,"#] {
            let text =
                #"{"schema":1,"version":1,"keys":[{\#(copies)"copyState":"ready","key":"a","state":"hot","since":"2026-11-22T10:00:00Z"}]}"#
            #expect(throws: DocumentError.self) {
                try RegistryCodec.decode(HotBucket.self, from: Array(text.utf8), source: "node")
            }
        }
    }

    /// The table in docs/znode-schema.md, "How many keys fit".
    @Test(arguments: [
        (20, 254, 348), (100, 194, 244), (200, 149, 177), (300, 121, 139), (500, 88, 98), (1_024, 51, 54),
    ])
    func aBucketHoldsAsManyKeysAsDocumented(keyBytes: Int, fewest: Int, most: Int) throws {
        let key = KeyName([UInt8](repeating: UInt8(ascii: "k"), count: keyBytes))
        let since = Timestamp("2026-11-22T10:00:00.100Z")!
        let usual = HotRecord(
            key: key, state: .hot, readsPerSecond: 5_230, errorPerSecond: 12, copies: 3, copyState: .ready,
            sources: ["agents"], since: since)
        let largest = HotRecord(
            key: key, state: .cooling, kind: .write, readsPerSecond: 1_000_000, writesPerSecond: 1_000_000,
            bytesPerSecond: 1_000_000_000, errorPerSecond: 100_000, copies: 16, copyState: .leaving,
            sources: ["agents"], since: since)
        let empty = try RegistryCodec.encode(HotBucket(version: 1 << 53), source: "").count
        func room(for record: HotRecord) throws -> Int {
            let bytes =
                try RegistryCodec.encode(HotBucket(version: 1 << 53, keys: [record]), source: "").count - empty + 1
            return (RegistryLimits.bucketBytesMax - 64) / bytes
        }
        #expect(empty <= 64)
        #expect(try room(for: usual) == most)
        #expect(try room(for: largest) == fewest)
    }
}
