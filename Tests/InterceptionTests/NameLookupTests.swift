import Glibc
import Testing

@testable import Interception

/// How `meshctl check` finds workloads whose names the mesh can't answer.
@Suite struct NameLookupTests {
    @Test(arguments: [
        ("hosts: files resolve [!UNAVAIL=return] dns\n", true), ("hosts:\tfiles dns resolve\n", false),
        ("hosts: files dns # resolve\n", false), ("passwd: resolve\nhosts: files\n", false), ("hosts: resolve", true),
        ("", false),
    ])
    func nssResolveCountsWhereItComesFirst(_ file: (String, Bool)) {
        #expect(NameLookupScan.asksResolved(nsswitch: file.0) == file.1, "\(file.0)")
    }

    @Test(arguments: [
        ("nameserver fe80::1%eth0\n", true), ("nameserver FEBF::1\n", true), ("nameserver 127.0.0.53\n", false),
        ("search feed.example\nnameserver fd00::1\n", false), ("#nameserver fe80::1\n", false),
    ])
    func linkLocalResolversAreFound(_ file: (String, Bool)) {
        #expect(NameLookupScan.hasLinkLocalResolver(resolvConf: file.0) == file.1, "\(file.0)")
    }

    @Test func connectionsToPort853AreFoundByTheirInode() {
        let text = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 0100007F:A1B2 08080808:0355 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000 20 4 30 10 -1
               1: 0100007F:0355 0100007F:A1B2 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0000 20 4 30 10 -1
               2: broken
            """
        #expect(NameLookupScan.inodes(procNetTCP: text, remotePort: 853) == [4711])
    }

    @Test func thisProcessIsReadThroughItsOwnRoot() {
        // Whatever this machine's files say, reading them is no error, and a process that is gone has nothing.
        _ = NameLookupScan.findings(of: [getpid()])
        #expect(NameLookupScan.findings(of: [Int32.max]).isEmpty)
    }
}
