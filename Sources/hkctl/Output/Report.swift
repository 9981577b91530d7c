import ArgumentParser
import StrictCoding

/// What a verb found or did: JSON by its fields, and text for people.
protocol Report: Encodable, Sendable {
    func text(_ terminal: Terminal) -> String
}

enum OutputForm: String, ExpressibleByArgument, CaseIterable, Sendable {
    case table
    case json

    func text(of report: some Report, terminal: Terminal) throws -> String {
        switch self {
        case .table: report.text(terminal)
        case .json: String(decoding: try StrictEncoder.encode(report, indented: true), as: UTF8.self) + "\n"
        }
    }
}
