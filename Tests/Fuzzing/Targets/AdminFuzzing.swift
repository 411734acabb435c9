import AdminAPI
import FoundationEssentials
import Glibc
import LinuxIO
import Telemetry
import TerminalUI

/// Input: what a client of the admin socket or of a metrics port sends. However it is cut, the same is understood, and
/// it is answered in whole.
func fuzzRequests(_ input: UnsafeRawBufferPointer) {
    let bytes = Array(input)
    let whole = HTTPRequest.parse(bytes[...])
    var count = 0
    while count < bytes.count {
        let part = HTTPRequest.parse(bytes[..<count])
        precondition(part == .incomplete || part == whole, "\(count) bytes are \(part), all are \(whole)")
        count += 1 + bytes.count / 64
    }
    guard case .request(let request) = whole else { return }
    precondition(request.path.hasPrefix("/"), "\(request.path)")
    let backend = EmptyBackend()
    let answer = AdminServer.answer(request, backend)
    precondition([200, 400, 404].contains(answer.status), "\(answer.status)")
    precondition(backend.limitMax <= AdminServer.recordsMax, "a limit above the bound")
    let body = try? AdminClient(socket: "fuzzed").body(of: answer.bytes)
    let isUnderstood = answer.status == 200 || answer.status == 202
    precondition(isUnderstood ? body == answer.body : body == nil, "our own answer is not understood")
}

private final class EmptyBackend: AdminBackend {
    private(set) var limitMax = 0

    func status() -> NodeStatus { NodeStatus() }
    func checks() -> [CheckFact] { [] }
    func flows(changedAfter change: UInt64, limit: Int) -> FlowPage {
        limitMax = max(limitMax, limit)
        return FlowPage(next: change)
    }
    func services() -> [ServiceRow] { [] }
    func workloads() -> [WorkloadRow] { [] }
    func nodes() -> [NodeRow] { [] }
    func tunnels() -> [TunnelRow] { [] }
    func certificates() -> [CertificateRow] { [] }
    func snapshotBytes() -> [UInt8]? { nil }
    func upgrade() -> String? { nil }
    func records(since: Int64) -> (records: [[UInt8]], more: Bool) { ([], false) }
    func records(limit: Int) -> [[UInt8]] {
        limitMax = max(limitMax, limit)
        return []
    }
}

/// Input: which question was asked, then the answer that meshctl gets, with and without HTTP around it. What it takes
/// is the same when it is written and taken again, and `top` draws it whatever the figures are.
func fuzzAnswers(_ input: UnsafeRawBufferPointer) {
    var parts = FuzzInput(input)
    let question = parts.byte()
    let text = Array(parts.rest)
    var body = text
    if question & 0x80 != 0 {
        guard let inside = try? AdminClient(socket: "fuzzed").body(of: text) else { return }
        precondition(text.suffix(inside.count).elementsEqual(inside), "a body that did not come")
        body = inside
    }
    switch question % 8 {
    case 0: checkAnswer(body, NodeStatus.self)
    case 1: checkAnswer(body, RowList<CheckFact>.self)
    case 2: checkAnswer(body, RowList<ServiceRow>.self)
    case 3: checkAnswer(body, RowList<WorkloadRow>.self)
    case 4: checkAnswer(body, RowList<NodeRow>.self)
    case 5: checkAnswer(body, RowList<TunnelRow>.self)
    case 6: checkAnswer(body, RowList<CertificateRow>.self)
    default: if let page = checkAnswer(body, FlowPage.self) { draw(page) }
    }
}

@discardableResult
private func checkAnswer<Answer: Decodable & JSONWritable & Equatable>(_ body: [UInt8], _ type: Answer.Type) -> Answer?
{
    guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(body)) else { return nil }
    let again = try? JSONDecoder().decode(Answer.self, from: Data(answer.jsonBytes))
    precondition(again == answer, "\(answer) came back as \(String(describing: again))")
    return answer
}

private func draw(_ page: FlowPage) {
    var model = TopModel()
    model.take(FlowPage(), node: "a", now: 1)
    model.take(page, node: "a", now: 2)
    for grouping in TopGrouping.allCases {
        model.group(by: grouping)
        _ = (TopReport.table(model), TopReport.csv(model), TopReport.json(model))
        let view = TopView(columns: 80, rows: 24, hasColour: true)
        precondition(view.lines(model).count == 24, "not as many lines as the terminal has")
        _ = view.screen(model)
    }
}

/// Input: how much of it is the older file, then the bytes of both, as a crash may have left them. Whole lines come back
/// newest first, and what is written next is found as the newest.
func fuzzRecords(_ input: UnsafeRawBufferPointer) {
    var parts = FuzzInput(input)
    let (share, limit) = (Int(parts.byte()), Int(parts.byte()) + 1)
    let bytes = Array(parts.rest)
    let cut = bytes.count * share / 256
    let (older, newer) = (Array(bytes[..<cut]), Array(bytes[cut...]))
    guard write(older, "records.jsonl.1"), write(newer, "records.jsonl") else { preconditionFailure("cannot write") }
    let log = RecordLog(directory: RecordFiles.directory, bytesMax: 1 << 20)
    let expected = (RecordFiles.lines(newer).reversed() + RecordFiles.lines(older).reversed()).prefix(limit)
    precondition(log.newest(limit: limit).elementsEqual(expected), "other records than there are")
    let record = Array("{}".utf8)
    log.append([record])
    precondition(log.failure == nil && log.newest(limit: 1) == [record], "not what was written last")
    let kept = RecordFiles.lines(newer).reversed().prefix(limit - 1)
    precondition(log.newest(limit: limit).dropFirst().starts(with: kept), "writing has lost records")
}

private enum RecordFiles {
    static let directory: String = {
        let path = "/tmp/culvert-fuzz-\(getpid())"
        mkdir(path, 0o700)
        atexit {
            for name in ["/records.jsonl", "/records.jsonl.1"] { unlink(RecordFiles.directory + name) }
            rmdir(RecordFiles.directory)
        }
        return path
    }()

    /// Without what follows the last newline.
    static func lines(_ bytes: [UInt8]) -> [[UInt8]] {
        bytes.split(separator: 0x0a, omittingEmptySubsequences: false).dropLast().map { Array($0) }
    }
}

private func write(_ bytes: [UInt8], _ name: String) -> Bool {
    let descriptor = open("\(RecordFiles.directory)/\(name)", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    return Glibc.write(descriptor, bytes, bytes.count) == bytes.count
}
