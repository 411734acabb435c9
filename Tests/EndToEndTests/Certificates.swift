/// Certificates of the lab's authority that no node has, made with openssl, and requests with them.
enum Certificates {
    static var directory: String { "\(Lab.state)/peers" }

    static func make(_ name: String, principal: String, daysAgo: Int = 0, days: Int = 2) throws {
        let path = "\(directory)/\(name)"
        try Shell.output(
            """
            mkdir -p \(directory) && cd \(directory)
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj / -keyout \(path)-key.pem -out \(path).csr 2>/dev/null
            printf 'subjectAltName=critical,URI:\(principal)\\nkeyUsage=critical,digitalSignature\\nextendedKeyUsage=serverAuth,clientAuth\\nbasicConstraints=critical,CA:FALSE\\n' >\(path).extensions
            [ -f index ] || { : >index; echo 01 >serial; }
            printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index\\nserial=serial\\nnew_certs_dir=.\\ndefault_md=sha256\\npolicy=p\\nunique_subject=no\\n[p]\\ncommonName=optional\\n' >ca.cnf
            openssl ca -batch -config ca.cnf -cert \(Lab.state)/ca/ca.pem -keyfile \(Lab.state)/ca/ca-key.pem -in \(path).csr \
            -out \(path).pem -notext -extfile \(path).extensions \
            -startdate "$(date -u -d '-\(daysAgo) days' +%Y%m%d%H%M%SZ)" -enddate "$(date -u -d '\(days - daysAgo) days' +%Y%m%d%H%M%SZ)" 2>openssl.log || \
            { cat openssl.log; exit 1; }
            """)
    }

    /// A CONNECT by python3-h2 from node a to node b's tunnel port; the JSON that it prints.
    static func request(as name: String, to account: String, authority: String, say: String = "") throws -> String {
        try Lab.output(
            "a", "none",
            """
            \(Lab.python) \(Lab.applications)/hbone_peer.py request --to [fd77::2]:15008 --certificate \(directory)/\(name).pem \
            --key \(directory)/\(name)-key.pem --trust \(Lab.state)/ca/ca.pem --principal \(Lab.principalPrefix)\(account) \
            --authority '\(authority)' --say '\(say)'
            """)
    }

    /// The server name that selects the workload's certificate.
    static func serverName(_ account: String) throws -> String {
        let digest = try Shell.output("printf %s \(Lab.principalPrefix)\(account) | sha256sum")
        return "p-\(digest.prefix(32)).culvert.internal"
    }
}
