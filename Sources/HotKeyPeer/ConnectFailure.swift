import Foundation
import NIOCore
import NIOPosix

extension PeerError {
    /// What went wrong while connecting, in words.
    init(connecting address: PeerAddress, _ failure: any Error, timeoutMilliseconds: Int) {
        let text = "\(address)"
        if isConnectTimeout(failure) {
            self.init(.timedOut, address: text, "no connection within \(timeoutMilliseconds) ms")
            return
        }
        self.init(.unreachable, address: text, reasonText(of: failure))
    }
}

private func isConnectTimeout(_ failure: any Error) -> Bool {
    switch failure {
    case ChannelError.connectTimeout: true
    case let failure as NIOConnectionError:
        !failure.connectionErrors.isEmpty && failure.connectionErrors.allSatisfy { isConnectTimeout($0.error) }
    default: false
    }
}

/// `connection refused` and its like, where the system says so.
func reasonText(of failure: any Error) -> String {
    switch failure {
    case let failure as NIOConnectionError:
        if let first = failure.connectionErrors.first { return reasonText(of: first.error) }
        return "the host name \(failure.host) cannot be resolved"
    case let failure as IOError: return String(cString: strerror(failure.errnoCode)).lowercased()
    case is SocketAddressError: return "the address cannot be resolved"
    default: return "\(failure)"
    }
}
