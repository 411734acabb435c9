import CLinux
import CMeshABI
import COpenSSL
import Glibc
import MeshModel
import Testing

@testable import OpenSSLTLS

// One after the other: what one of them holds is measured.
@Suite(.serialized) struct TransferTests {
    let authority: Authority
    let web: TLSIdentity
    let shop: TLSIdentity

    init() throws {
        try TLSLibrary.prepare()
        authority = try Authority()
        web = try authority.identity("web")
        shop = try authority.identity("shop")
    }

    /// Bytes that differ at every offset that a mistake could confuse.
    private func pattern(_ count: Int, seed: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761 &+ seed) >> 13) }
    }

    @Test func carriesMegabytesBothWaysAtOnce() throws {
        let link = try Link(client: shop, server: web)
        try link.established()
        let (up, down) = (pattern(6 << 20, seed: 1), pattern(5 << 20, seed: 2))
        var (upSent, downSent) = (0, 0)
        var (upGot, downGot): ([UInt8], [UInt8]) = ([], [])
        var turn = 0
        while upGot.count < up.count || downGot.count < down.count {
            turn += 1
            try #require(turn < 100_000)
            // Sizes around a record's, and odd flushes.
            let size = [1, 16_383, 16_384, 16_385, 100_000, 262_144, 37][turn % 7]
            if link.client?.pendingCount ?? 0 < 500_000 {
                let piece = Array(up[upSent..<min(up.count, upSent + size)])
                #expect(link.clientWrites(piece) == nil)
                upSent += piece.count
            }
            if link.server?.pendingCount ?? 0 < 500_000 {
                let piece = Array(down[downSent..<min(down.count, downSent + size)])
                #expect(link.serverWrites(piece) == nil)
                downSent += piece.count
            }
            link.flushClient(turn % 3 == 0 ? 1_000 : .max)
            link.flushServer(turn % 5 == 0 ? 77 : .max)
            upGot += link.serverReads().bytes
            downGot += link.clientReads().bytes
        }
        #expect(upGot == up)
        #expect(downGot == down)
        #expect(link.client?.pendingCount == 0)
    }

    @Test func carriesDataByteByByte() throws {
        let link = try Link(client: shop, server: web)
        try link.established()
        let text = pattern(20_000, seed: 3)
        #expect(link.clientWrites(text) == nil)
        var got: [UInt8] = []
        while link.flushClient(1) > 0 {
            let result = link.serverReads()
            #expect(result.end == .wouldBlock)
            got += result.bytes
        }
        #expect(got == text)
    }

    @Test func readsIntoSmallBuffers() throws {
        let link = try Link(client: shop, server: web)
        try link.established()
        let text = pattern(40_000, seed: 4)
        #expect(link.clientWrites(text) == nil)
        link.flushClient()
        var got: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 100)
        while case .bytes(let count)? = piece.withUnsafeMutableBytes({ link.server?.read(into: $0) }), count > 0 {
            got += piece[..<count]
        }
        #expect(got == text)
        #expect(piece.withUnsafeMutableBytes { link.server?.read(into: .init(rebasing: $0[..<0])) } == .bytes(0))
    }

    @Test func worksOverLoopback() throws {
        let link = Link(sockets: try Link.loopback())
        link.client = try TLSConnection(
            client: shop, expecting: web.principal, descriptor: link.clientSocket, clock: Authority.now)
        link.server = try TLSConnection(
            server: TLSServerContext(identities: [web]), descriptor: link.serverSocket, clock: Authority.now)
        var done = false
        for _ in 0..<1_000 where !done {
            let outcome = link.handshake()
            done = outcome.client == .done && outcome.server == .done
            usleep(1_000)
        }
        #expect(done)
        #expect(link.serverWrites(Array("220 ready".utf8)) == nil)
        link.flushServer()
        var got: [UInt8] = []
        for _ in 0..<1_000 where got.isEmpty {
            got = link.clientReads().bytes
            usleep(1_000)
        }
        #expect(got == Array("220 ready".utf8))
    }

    // MARK: ends

    @Test func closingIsToldFromBeingCutOff() throws {
        let link = try Link(client: shop, server: web)
        try link.established()
        #expect(link.clientWrites(Array("last".utf8)) == nil)
        link.client?.close()
        let orderly = link.serverReads()
        #expect(orderly.bytes == Array("last".utf8))
        #expect(orderly.end == .closed)

        let cut = try Link(client: shop, server: web)
        try cut.established()
        shutdown(cut.clientSocket, Int32(SHUT_WR))
        #expect(cut.serverReads().end.failure?.isConnectionLoss == true)
    }

    @Test func tamperedRecordsEndTheConnection() throws {
        for position in [0, 1, 2, 3, 4, 5, 30, 200] {
            let link = try Link(client: shop, server: web)
            try link.established()
            #expect(link.clientWrites(pattern(300, seed: 5)) == nil)
            var bytes = Array(link.client?.pending ?? UnsafeRawBufferPointer(start: nil, count: 0))
            bytes[position] ^= 0x41
            // Enough behind it that a longer length is filled.
            bytes += pattern(20_000, seed: 6)
            #expect(write(link.clientSocket, bytes, bytes.count) == bytes.count)
            let result = link.serverReads()
            #expect(result.bytes.isEmpty)
            #expect(result.end.failure?.reason == .MESH_REASON_TLS_FAILED, "\(result.end)")
        }
    }

    @Test func randomBytesNeverTrap() throws {
        var generator = SystemRandomNumberGenerator()
        for round in 0..<300 {
            let link = try Link(client: shop, server: web)
            if round % 2 == 0 { try link.established() }
            var bytes: [UInt8] = (0..<(1 + round * 7)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            if round % 3 == 0 { bytes = [22, 3, 1, 0, UInt8(round & 255)] + bytes }
            if round % 3 == 1 { bytes = [23, 3, 3, 0, UInt8(round & 255)] + bytes }
            _ = write(link.clientSocket, bytes, bytes.count)
            _ = link.server?.handshake()
            if round % 2 == 0 { _ = link.serverReads() }
            link.flushServer()
        }
    }

    /// Each byte of a real ClientHello changed in turn: whatever comes of it, the server survives and has a name for it.
    @Test func mutatedClientHellosAreRefusedOrTaken() throws {
        let first = try Link(client: shop, server: web)
        #expect(first.client?.handshake() == .wantRead)
        let hello = Array(first.client?.pending ?? UnsafeRawBufferPointer(start: nil, count: 0))
        try #require(hello.count > 100)
        for index in hello.indices {
            let link = try Link()
            link.server = try TLSConnection(
                server: TLSServerContext(identities: [web]), descriptor: link.serverSocket, clock: Authority.now)
            var changed = hello
            changed[index] = changed[index] &+ 0x55
            _ = write(link.clientSocket, changed, changed.count)
            let progress = link.server?.handshake() ?? .done
            #expect(progress != .done)
            if let failure = progress.failure { #expect(failure.reason != .MESH_REASON_NONE) }
        }
    }

    // MARK: after the handshake

    @Test func rekeysWithoutLosingAByte() throws {
        let link = try Link(client: shop, server: web)
        try link.established()
        var (sent, got): ([UInt8], [UInt8]) = ([], [])
        for round in 0..<20 {
            link.client?.rekey()
            let piece = pattern(5_000, seed: round)
            sent += piece
            #expect(link.clientWrites(piece) == nil)
            link.flushClient()
            got += link.serverReads().bytes
        }
        #expect(got == sent)
    }

    @Test func aFloodOfKeyUpdatesEndsTheConnection() throws {
        let link = try Link(client: shop, server: web)
        try link.established()
        var failure: TLSFailure?
        for round in 0..<5_000 where failure == nil {
            link.client?.rekey()
            #expect(link.clientWrites([UInt8(round & 255)]) == nil)
            link.flushClient()
            failure = link.serverReads().end.failure
        }
        #expect(failure == .flooded)
    }

    @Test func newCertificatesLeaveLiveConnectionsAlone() throws {
        var server: TLSServerContext? = try TLSServerContext(identities: [web])
        let link = try Link(client: shop, expecting: web.principal, server: try #require(server))
        try link.established()
        let renewed = try authority.identity("web", to: 7_200)
        server = try TLSServerContext(identities: [renewed])
        #expect(link.clientWrites(Array("still here".utf8)) == nil)
        link.flushClient()
        #expect(link.serverReads().bytes == Array("still here".utf8))

        let next = try Link(client: shop, expecting: web.principal, server: try #require(server))
        try next.established()
        #expect(next.client?.peerNotAfter == Authority.now + 7_200)
        #expect(link.client?.peerNotAfter == Authority.now + 3_600)
    }

    @Test func noSessionIsResumed() throws {
        let link = try Link(client: shop, server: web)
        try link.established()
        // A ticket would come right after the handshake.
        #expect(link.clientReads().end == .wouldBlock)
        #expect(link.clientReads().bytes.isEmpty)
        #expect(link.server?.pendingCount == 0)
    }

    /// 26 KiB in a release build: the session with the peer's certificate, key schedule and two cipher contexts.
    @Test func anIdleConnectionHoldsLittleMemory() throws {
        let server = try TLSServerContext(identities: [web])
        let buffers = TLSBuffersPointer.allocate(capacity: 1)
        buffers.initialize(to: TLSBuffers())
        defer {
            buffers.deinitialize(count: 1)
            buffers.deallocate()
        }
        let before = clinux_heap_used()
        var links: [Link] = []
        for _ in 0..<100 {
            let link = try Link(client: shop, expecting: web.principal, server: server, buffers: buffers)
            try link.established()
            let bytes = pattern(50_000, seed: 7)
            #expect(link.clientWrites(bytes) == nil)
            link.flushClient()
            #expect(link.serverReads().bytes == bytes)
            #expect(link.clientReads().end == .wouldBlock)
            #expect(link.client?.releaseBuffers() == true)
            #expect(link.server?.releaseBuffers() == true)
            links.append(link)
        }
        for _ in 0..<2 { buffers.pointee.trim() }
        // Other tests run beside this one: the bound is wide, but far below one buffer to receive with (256 KiB).
        let perConnection = (Int(clinux_heap_used()) - Int(before)) / 200
        #expect(perConnection < 48 << 10, "\(perConnection) bytes")
        _ = consume links
    }

    @Test func buffersOfAHalfReceivedRecordStay() throws {
        let link = try Link(client: shop, server: web)
        try link.established()
        let text = pattern(1_000, seed: 8)
        #expect(link.clientWrites(text) == nil)
        var got: [UInt8] = []
        var releases = 0
        while link.flushClient(1) > 0 {
            let result = link.serverReads()
            #expect(result.end == .wouldBlock)
            got += result.bytes
            if link.server?.releaseBuffers() == true { releases += 1 }
        }
        #expect(got == text)
        // After the last byte alone.
        #expect(releases == 1)
    }

    /// Connections of one thread receive into the same memory: one that stops in the middle of what came keeps the rest.
    @Test func whatCameOutlivesTheNextConnectionsTurn() throws {
        let server = try TLSServerContext(identities: [web])
        let buffers = TLSBuffersPointer.allocate(capacity: 1)
        buffers.initialize(to: TLSBuffers())
        defer {
            buffers.deinitialize(count: 1)
            buffers.deallocate()
        }
        let texts = (0..<3).map { pattern(60_000, seed: $0) }
        var links = try texts.map { _ in
            try Link(client: shop, expecting: web.principal, server: server, buffers: buffers)
        }
        for (link, text) in zip(links, texts) {
            try link.established()
            #expect(link.clientWrites(text) == nil)
            link.flushClient()
        }
        var got = links.map { _ in [UInt8]() }
        while zip(got, texts).contains(where: { $0.count < $1.count }) {
            for (index, link) in links.enumerated() {
                let piece = link.serverReads(1).bytes
                got[index] += piece
                #expect(link.serverWrites([UInt8(index)]) == nil)
                link.flushServer()
                #expect(link.clientReads(1).bytes == [UInt8(index)])
            }
        }
        #expect(got == texts)
        links.removeAll()
    }
}
