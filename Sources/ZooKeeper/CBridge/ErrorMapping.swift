internal import CZooKeeper

/// A call's failure, before the path that the caller knows is put to it.
struct CallFailure: Error, Sendable, Hashable {
    var code: StoreError.Code
    var rawCode: Int32?
    var operationIndex: Int?
    var message: String

    /// P20: the one place where the library's codes become ours; the raw one is kept.
    init(libraryCode rc: Int32, operationIndex: Int? = nil) {
        (code, message) = Self.meaning(rc)
        rawCode = rc
        self.operationIndex = operationIndex
    }

    init(_ code: StoreError.Code, message: String) {
        self.code = code
        self.message = message
    }

    /// Whether the failure is an answer about a node, as opposed to one about the connection or the session.
    static func isAboutNode(_ rc: Int32) -> Bool {
        switch rc {
        case ZNONODE.rawValue, ZNOAUTH.rawValue, ZBADVERSION.rawValue, ZNOCHILDRENFOREPHEMERALS.rawValue,
            ZNODEEXISTS.rawValue, ZNOTEMPTY.rawValue, ZINVALIDACL.rawValue, ZBADARGUMENTS.rawValue,
            ZUNIMPLEMENTED.rawValue, ZEPHEMERALONLOCALSESSION.rawValue:
            true
        default: false
        }
    }

    private static func meaning(_ rc: Int32) -> (StoreError.Code, String) {
        switch rc {
        case ZNONODE.rawValue: (.noNode, "there is no such node")
        case ZNODEEXISTS.rawValue: (.nodeExists, "the node is there already")
        case ZBADVERSION.rawValue: (.badVersion, "the node has another version than the expected one; read it again")
        case ZNOTEMPTY.rawValue: (.notEmpty, "the node has children; delete them first")
        case ZNOCHILDRENFOREPHEMERALS.rawValue:
            (.noChildrenForEphemerals, "the parent is ephemeral and cannot have children")
        case ZNOAUTH.rawValue:
            (.noAuthentication, "the node's access control does not allow this to the credentials of this session")
        case ZAUTHFAILED.rawValue:
            (.authenticationFailed, "the server refused the credentials; check the authentication settings")
        case ZINVALIDACL.rawValue:
            (.invalidACL, "the server refused the access control list; \"auth\" entries need credentials")
        case ZBADARGUMENTS.rawValue: (.badArguments, "the server or the library refused the arguments")
        // What the library calls a timeout or an inconsistency is the end of its connection, too.
        case ZCONNECTIONLOSS.rawValue, ZOPERATIONTIMEOUT.rawValue, ZRUNTIMEINCONSISTENCY.rawValue,
            ZSESSIONMOVED.rawValue, ZSSLCONNECTIONERROR.rawValue:
            (
                .connectionLoss,
                "the connection broke while the call was under way; a write may have happened: read before repeating it"
            )
        case ZSESSIONEXPIRED.rawValue, ZINVALIDSTATE.rawValue, ZCLOSING.rawValue:
            (
                .sessionExpired,
                "the session of the call is gone; a write may have happened: read before repeating it"
            )
        case ZTHROTTLEDOP.rawValue: (.tooManyInFlight, "the server is overloaded and did not execute the call")
        case ZMARSHALLINGERROR.rawValue: (.marshalling, "the reply could not be read, or the request not be written")
        default: (.other, "the library says: \(String(cString: zerror(rc)))")
        }
    }
}
