import Foundation

/// A key in JSON: a string when its bytes are UTF-8, `{"b64":"…"}` when not.
public struct PeerKey: Codable, Sendable, Hashable {
    public var bytes: [UInt8]

    public init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    private enum CodingKeys: String, CodingKey {
        case b64
    }

    public init(from decoder: any Decoder) throws {
        if let text = try? decoder.singleValueContainer().decode(String.self) {
            bytes = Array(text.utf8)
            return
        }
        let container = try decoder.container(keyedBy: CodingKeys.self)
        guard let data = Data(base64Encoded: try container.decode(String.self, forKey: .b64)) else {
            throw DecodingError.dataCorruptedError(
                forKey: .b64, in: container, debugDescription: "expected base64")
        }
        bytes = Array(data)
    }

    public func encode(to encoder: any Encoder) throws {
        if let text = String(validating: bytes, as: UTF8.self) {
            var container = encoder.singleValueContainer()
            try container.encode(text)
        } else {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(Data(bytes).base64EncodedString(), forKey: .b64)
        }
    }
}
