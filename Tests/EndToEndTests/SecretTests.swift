import FoundationEssentials
import Testing

extension EndToEnd {
    /// Private keys: who may look for them, and where they are.
    @Suite("Secrets", .timeLimit(.minutes(3)))
    struct Secrets {
        /// What Tests/Applications/look_into.py prints.
        struct Refusals: Decodable {
            let ptrace: String
            let memory: String
            let environment: String
            let ownPtrace: String
            let ownMemory: String
        }
        struct Copies: Decodable {
            let text: Int
            let number: Int
            let words: Int
            let keys: Int
            let searched: Int
        }

        static func look<Answer: Decodable>(_ arguments: String, as wrapper: String = "") throws -> Answer {
            let line = try Shell.output("\(wrapper) \(Lab.python) \(Lab.applications)/look_into.py \(arguments)")
            return try JSONDecoder().decode(Answer.self, from: Data(line.utf8))
        }

        static func daemon(_ node: String) throws -> Int32 { try Lab.processID("meshd-\(node)") }
        static func proxy(_ node: String) throws -> Int32 { try #require(Lab.meshProcesses(node, "proxy").first) }

        @Test func nobodyOfTheSameUserMayLookInside() throws {
            let asProxy = "setpriv --reuid nobody --regid nogroup --clear-groups --no-new-privs"
            // The user root without its powers: what meshd is protected from is not root, but its uid alone.
            let asDaemon = "setpriv --bounding-set -all --inh-caps -all"
            for (pid, wrapper) in [(try Self.proxy("a"), asProxy), (try Self.daemon("a"), asDaemon)] {
                let answer: Refusals = try Self.look("trace \(pid)", as: wrapper)
                #expect(answer.ownPtrace == "ok" && answer.ownMemory == "ok", "the probe itself can't look anywhere")
                #expect(answer.ptrace == "EPERM")
                #expect(["EACCES", "EPERM"].contains(answer.memory), "\(answer.memory)")
                #expect(["EACCES", "EPERM"].contains(answer.environment), "\(answer.environment)")
            }
        }

        @Test func neitherMeshdNorItsProxyDumpsCore() throws {
            for pid in [try Self.daemon("a"), try Self.proxy("a")] {
                let limit = try Shell.output("grep '^Max core file size' /proc/\(pid)/limits")
                #expect(limit.split(separator: " ").dropFirst(4).prefix(2).allSatisfy { $0 == "0" }, "\(limit)")
                // Of a process that may be dumped, these belong to its own user.
                #expect(try Shell.output("stat -c %U /proc/\(pid)/mem") == "root\n")
            }
            #expect(try Shell.output("ps -o user= -p \(Self.proxy("a"))") == "nobody\n")
        }

        /// meshd keeps the text of a key for a proxy that is started anew, the proxy the number that it signs with; no
        /// message, buffer or library has left another copy. A key that came while both ran is no exception.
        @Test func aKeyIsInMemoryOnceWhereItIsNeededAndNowhereElse() throws {
            let keys = "\(Lab.state)/a/certificates/shop/a-w{1,2,3,4}/key.pem"
            try expectOneCopyEach(keys)
            let before = try Shell.output("cat \(Lab.state)/a/certificates/shop/a-w4/key.pem")
            let old = "\(Lab.state)/old-key.pem"
            try Shell.output("cp \(Lab.state)/a/certificates/shop/a-w4/key.pem \(old)")
            defer { _ = try? Shell.run("rm -f \(old)") }
            try Shell.output(
                """
                \(Lab.state)/bin/meshctl ca issue --directory \(Lab.state)/ca --output \(Lab.state)/a/certificates \
                --namespace shop --service-account a-w4
                """)
            #expect(try Shell.output("cat \(Lab.state)/a/certificates/shop/a-w4/key.pem") != before)
            let isReplaced = try Shell.waits(15) {
                let gone: Copies = try Self.look("search \(Self.daemon("a")) \(old)")
                return gone.text == 0
            }
            #expect(isReplaced, "meshd still has the key that was replaced")
            try expectOneCopyEach(keys)
        }

        private func expectOneCopyEach(_ keys: String) throws {
            let daemon: Copies = try Self.look("search \(Self.daemon("a")) \(keys)")
            #expect(daemon.keys == 4 && daemon.searched > 1 << 20)
            #expect(daemon.text == 4, "texts in meshd")
            #expect(daemon.number == 0 && daemon.words == 0, "decoded keys in meshd: \(daemon)")
            let proxy: Copies = try Self.look("search \(Self.proxy("a")) \(keys)")
            #expect(proxy.text == 0, "texts in the proxy")
            #expect(proxy.number == 0, "decoded texts in the proxy")
            #expect(proxy.words == 4, "keys that the proxy signs with")
            for pid in try Lab.meshProcesses("a", "sockets") {
                let maker: Copies = try Self.look("search \(pid) \(keys)")
                #expect(maker.text + maker.number + maker.words == 0, "keys in the socket maker")
            }
        }
    }
}
