import HotKeyMitigation
import HotKeyPeer
import HotKeyRegistry
import HotKeyRules
import StrictCoding
import ZooKeeper

/// The exit status that scripts rely on.
enum ExitStatus: Int32 {
    case done = 0
    case failed = 1
    case usage = 2
}

/// Why a verb was not done: what happened, what it means, what to do.
struct Failure: Error, CustomStringConvertible {
    var status: ExitStatus
    var lines: [String]

    init(_ status: ExitStatus = .failed, _ lines: String...) {
        self.status = status
        self.lines = lines
    }

    var description: String { lines.filter { !$0.isEmpty }.map(DisplayText.escaped).joined(separator: "\n") }
}

/// Where a verb was at work when it failed.
struct Place: Sendable {
    var servers: String
    var root: String
    var app: String?
    var timeoutMilliseconds: Int
    /// As whom the session authenticated; nil before that is known.
    var login: DigestLogin??

    /// As whom the session authenticated, and where another user would be given.
    var loginText: String {
        let places = "--zookeeper-digest-file FILE, HOTKEY_ZOOKEEPER_DIGEST_FILE or HOTKEY_ZOOKEEPER_AUTH"
        guard case .some(let login?) = login else {
            return "This session did not authenticate: give a user and a password with \(places)."
        }
        return "This session authenticated as \(login.user) (\(login.source)); another one is given with \(places)."
    }

    /// The options that lead here again.
    var hkctl: String { "hkctl" + (app.map { " --app \($0)" } ?? "") }
}

extension Failure {
    /// Errors of the layers below in an operator's words; what needs no explaining is returned as it is.
    static func explain(_ error: any Error, at place: Place) -> any Error {
        switch error {
        case let error as RegistryError: Failure(error, at: place)
        case let error as StoreError: Failure(error, at: place)
        case let error as DocumentError: Failure(.failed, "\(error)", "Nothing was changed.")
        case let error as PeerError: Failure(.failed, "\(error)")
        case is PlacementError, is RuleBookError: Failure(.failed, "\(error)")
        case is CancellationError: Failure(.failed, "Interrupted.")
        default: error
        }
    }

    private init(_ error: RegistryError, at place: Place) {
        switch error.code {
        case .badArgument: self.init(.usage, error.message, "Nothing was changed.")
        case .notInitialised:
            self.init(
                .failed,
                "The app \"\(place.app ?? "")\" is not initialised under \(place.root) at \(place.servers)"
                    + (error.path.map { " (there is no \($0))." } ?? "."),
                "Nothing was changed.",
                "To create it: \(place.hkctl) init --nodes NAME=HOST:PORT,… — or see that --app, --root and --zookeeper are right."
            )
        case .badDocument:
            self.init(
                .failed, "\(error)", "The document in ZooKeeper cannot be used; nothing was changed by this command.",
                Self.replacementAdvice(for: error.path, place))
        case .tooLarge:
            self.init(
                .failed, "\(error)", "Remove what is not needed any more (old pins, rules) and try again.")
        case .contention: self.init(.failed, error.message, "Other operators write at this moment; run it again.")
        case .unknownOutcome:
            self.init(
                .failed, "\(error)",
                "The connection broke at the wrong moment. Look first ('\(place.hkctl) history'), then run it again if needed."
            )
        case .store:
            if let store = error.store {
                self.init(store, at: place, path: error.path, message: error.message)
            } else {
                self.init(.failed, error.message)
            }
        case .requestDropped, .deposed, .conflictingWriter, .stateDirectory: self.init(.failed, "\(error)")
        }
    }

    private static func replacementAdvice(for path: String?, _ place: Place) -> String {
        switch path?.split(separator: "/").last {
        case "rules": "'\(place.hkctl) rules apply FILE' replaces it."
        case "topology": "'\(place.hkctl) topology apply FILE' replaces it."
        case "control": "'\(place.hkctl) mode off|observe|mitigate' replaces it."
        case "pins":
            "'\(place.hkctl) import FILE' replaces it with the pins of an export. Without one, delete the node ('zkCli.sh deleteall "
                + "\(path ?? "")') and run '\(place.hkctl) init': it begins with no pins. Agents act on the last good ones until then."
        case "hot": "The coordinator replaces it within a minute; '\(place.hkctl) init' does so at once."
        default: "Put it right with a ZooKeeper client, by the schema in docs/znode-schema.md."
        }
    }

    private init(_ error: StoreError, at place: Place, path: String? = nil, message: String = "") {
        switch error.code {
        case .connectionLoss, .sessionExpired, .deadlineExceeded, .closed:
            self.init(
                .failed,
                "ZooKeeper does not answer at \(place.servers) (waited \(TimeText.span(Int64(place.timeoutMilliseconds))))."
                    + (error.message.isEmpty ? "" : " \(error.message)"),
                "Agents go on with what they know; only changes and this tool wait for ZooKeeper.",
                "Check that a server listens there ('echo srvr | nc HOST PORT') and that this host reaches it, "
                    + "or name others with --zookeeper HOST:PORT,… or HOTKEY_ZOOKEEPER; --timeout allows more time.")
        case .noAuthentication, .authenticationFailed, .invalidACL:
            self.init(
                .failed,
                message.isEmpty
                    ? "ZooKeeper refuses access\(error.path.map { " to \($0)" } ?? "")." : "\(message).",
                "Nothing was changed. Reading needs the role reader, agent or operator (reading the roles: agent or operator); "
                    + "changing anything needs the role operator ('hkctl acl show' tells who has them).",
                place.loginText)
        case .badArguments: self.init(.usage, "--zookeeper: \(error.message)")
        default: self.init(.failed, message.isEmpty ? "\(error)" : "\(message): \(error)")
        }
    }
}

/// Runs what needs no ZooKeeper; its errors are explained all the same.
func explaining<Value>(_ options: GlobalOptions, _ body: () throws -> Value) throws -> Value {
    do {
        return try body()
    } catch {
        throw Failure.explain(error, at: options.place)
    }
}
