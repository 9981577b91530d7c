import Foundation

/// Ranks from 0, drawn with probability proportional to 1/(rank+1)^exponent, by inverting the sum.
struct Zipf {
    private let sums: [Double]

    init(ranks: Int, exponent: Double) {
        var sum = 0.0
        sums = (1...ranks).map { rank in
            sum += pow(Double(rank), -exponent)
            return sum
        }
    }

    func rank(_ generator: inout some RandomNumberGenerator) -> Int {
        let wanted = Double.random(in: 0..<sums[sums.count - 1], using: &generator)
        var (low, high) = (0, sums.count - 1)
        while low < high {
            let middle = (low + high) / 2
            if sums[middle] > wanted { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
