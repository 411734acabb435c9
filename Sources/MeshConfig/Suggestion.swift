/// "did you mean": the known name that is nearest to a mistyped one.
package enum Suggestion {
    /// Nil where nothing is near enough to be meant.
    static func nearest(to name: String, among known: [String]) -> String? {
        guard name.utf8.count <= lengthMax else { return nil }
        let lowered = name.lowercased()
        var best: (name: String, distance: Int)?
        for candidate in known {
            let distance = editDistance(Array(lowered.utf8), Array(candidate.lowercased().utf8))
            let limit = max(1, min(name.utf8.count, candidate.utf8.count) / 3)
            if distance <= limit && distance < best?.distance ?? Int.max { best = (candidate, distance) }
        }
        return best?.name
    }

    /// The clause for a message, or nothing.
    package static func clause(for name: String, among known: [String]) -> String {
        nearest(to: name, among: known).map { "; did you mean `\($0)`?" } ?? ""
    }

    // MARK: private

    private static let lengthMax = 64

    /// Insertions, deletions, changes and swaps of neighbours (optimal string alignment).
    private static func editDistance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var beforeLast: [Int] = []
        var last = Array(0...right.count)
        for (row, byte) in left.enumerated() {
            var current = [row + 1]
            for (column, other) in right.enumerated() {
                var cost = min(last[column + 1] + 1, current[column] + 1, last[column] + (byte == other ? 0 : 1))
                if row > 0, column > 0, byte == right[column - 1], left[row - 1] == other {
                    cost = min(cost, beforeLast[column - 1] + 1)
                }
                current.append(cost)
            }
            beforeLast = last
            last = current
        }
        return last[right.count]
    }
}
