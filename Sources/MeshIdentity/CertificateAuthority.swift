// MeshIdentity is where workload certificates come from: a certificate authority for a small mesh
// (`CertificateAuthority`, behind `meshctl ca`) and the store of a node's certificates, which follows its directory
// (`CertificateStore`, in meshd). It decides nothing about peers and speaks no TLS (OpenSSLTLS does); keys leave it
// only as `SecretBytes` for the proxy's socket, which meshd sends.

import Glibc
import LinuxIO
import MeshModel
import OpenSSLTLS

/// The authority of one trust domain, in a directory of its own: `ca.pem` is what nodes trust, `ca-key.pem` is as
/// powerful as the whole mesh and belongs on no node.
package final class CertificateAuthority {
    package let directory: String
    package let trustDomain: String
    /// Seconds since 1970.
    package let notAfter: Int64
    private let certificate: Certificate
    private let key: PrivateKey

    package static let certificateName = "ca.pem"
    package static let keyName = "ca-key.pem"
    package static let lifetimeDefault: Int64 = 3_650 * 86_400
    package static let workloadLifetimeDefault: Int64 = 30 * 86_400
    /// Certificates are valid a little before they are made, for nodes whose clocks are behind.
    package static let backdating: Int64 = 300

    /// A certificate that has just been issued.
    package struct Issued: Equatable, Sendable {
        package var principal: String
        package var serial: String
        package var notBefore: Int64
        package var notAfter: Int64
        package var chainFile: String
        package var keyFile: String
        /// The authority itself ends before the lifetime that was asked for.
        package var isCutByAuthority: Bool
        /// What nodes trust, `<output>/ca.pem`: written when there was none, otherwise left as it is.
        package var trust: Trust

        package enum Trust: Equatable, Sendable { case written(String), holdsAuthority, lacksAuthority(String) }
    }

    /// Makes a new authority in `directory`; one that is there stays and is an error. Times are seconds.
    package static func create(
        directory: String, trustDomain: String, lifetime: Int64 = lifetimeDefault, now: Int64 = WallClock.seconds()
    ) throws(IdentityError) -> CertificateAuthority {
        guard Principal.isTrustDomain(trustDomain) else {
            throw IdentityError(directory, "\"\(trustDomain)\" is no trust domain: a-z, 0-9, dot, dash, underscore")
        }
        guard lifetime > 0 else { throw IdentityError(directory, "the lifetime must be positive") }
        let (certificateFile, keyFile) = ("\(directory)/\(certificateName)", "\(directory)/\(keyName)")
        for file in [certificateFile, keyFile] where access(file, F_OK) == 0 {
            throw IdentityError(file, "exists: an authority is never overwritten")
        }
        try IdentityFiles.makeDirectory(directory, mode: 0o700)
        let secret: SecretBytes
        var pem: [UInt8]
        do throws(TLSSetupError) {
            let key = try PrivateKey.makeP256()
            let certificate = try Certificate.selfSigned(
                CertificateRequest(
                    subject: .authority(commonName: "Culvert \(trustDomain)"), notBefore: now - backdating,
                    notAfter: now + lifetime, trustDomain: trustDomain), key: key)
            secret = try key.pem()
            pem = try certificate.pem()
        } catch { throw IdentityError(directory, "\(error)") }
        // The certificate last: a directory with it is complete.
        try IdentityFiles.write(keyFile, secret, replaces: false)
        try IdentityFiles.write(certificateFile, SecretBytes(taking: &pem), replaces: false)
        return try CertificateAuthority(directory: directory)
    }

    package init(directory: String) throws(IdentityError) {
        self.directory = directory
        let (certificateFile, keyFile) = ("\(directory)/\(Self.certificateName)", "\(directory)/\(Self.keyName)")
        let (pem, secret) = (
            try IdentityFiles.readPublic(certificateFile), try IdentityFiles.read(keyFile).bytes
        )
        do throws(TLSSetupError) { certificate = try Certificate.all(pem: pem)[0] } catch {
            throw IdentityError(certificateFile, "\(error)")
        }
        do throws(TLSSetupError) { key = try PrivateKey(pem: secret) } catch {
            throw IdentityError(keyFile, "\(error)")
        }
        guard key.matches(certificate) else { throw IdentityError(keyFile, "not the key of \(certificateFile)") }
        guard certificate.isAuthority else { throw IdentityError(certificateFile, "not an authority's certificate") }
        let scheme = "spiffe://"
        guard let uri = certificate.uri, uri.hasPrefix(scheme),
            Principal.isTrustDomain(String(uri.dropFirst(scheme.count)))
        else { throw IdentityError(certificateFile, "names no trust domain (URI spiffe://<trust domain>)") }
        trustDomain = String(uri.dropFirst(scheme.count))
        notAfter = certificate.notAfter
    }

    /// The trust bundle for nodes, PEM.
    package func bundle() throws(IdentityError) -> [UInt8] {
        try IdentityFiles.readPublic("\(directory)/\(Self.certificateName)")
    }

    /// Makes a key and a certificate for a service account, and puts them where meshd looks:
    /// `<output>/<namespace>/<service account>/{key.pem,chain.pem}`, in place of older ones.
    package func issue(
        namespace: String, serviceAccount: String, output: String, lifetime: Int64 = workloadLifetimeDefault,
        now: Int64 = WallClock.seconds()
    ) throws(IdentityError) -> Issued {
        guard
            let principal = Principal(
                trustDomain: trustDomain, namespace: namespace, serviceAccount: serviceAccount)
        else {
            throw IdentityError(
                output,
                "\"\(namespace)/\(serviceAccount)\" can't be in a SPIFFE ID: letters, digits, dot, dash, underscore"
            )
        }
        guard lifetime > 0 else { throw IdentityError(output, "the lifetime must be positive") }
        guard now < notAfter else {
            throw IdentityError(
                "\(directory)/\(Self.certificateName)", "the authority expired at \(timeText(notAfter))")
        }
        let leafNotAfter = min(now + lifetime, notAfter)
        let place = "\(output)/\(namespace)/\(serviceAccount)"
        let (keyFile, chainFile) = (
            "\(place)/\(CertificateDirectory.keyName)", "\(place)/\(CertificateDirectory.chainName)"
        )
        let leaf: Certificate
        let secret: SecretBytes
        var pem: [UInt8]
        do throws(TLSSetupError) {
            let leafKey = try PrivateKey.makeP256()
            leaf = try Certificate.signed(
                CertificateRequest(
                    subject: .workload(principal), notBefore: now - Self.backdating, notAfter: leafNotAfter),
                key: leafKey, by: certificate, key)
            secret = try leafKey.pem()
            pem = try leaf.pem()
        } catch { throw IdentityError(place, "\(error)") }
        try IdentityFiles.makeDirectory(place, mode: 0o755)
        try IdentityFiles.write(keyFile, secret, replaces: true)
        try IdentityFiles.write(chainFile, SecretBytes(taking: &pem), replaces: true)
        let trust = try provideTrust("\(output)/\(CertificateDirectory.trustName)")
        return Issued(
            principal: principal.uri, serial: leaf.serial, notBefore: leaf.notBefore, notAfter: leaf.notAfter,
            chainFile: chainFile, keyFile: keyFile, isCutByAuthority: now + lifetime > notAfter,
            trust: trust)
    }

    /// A bundle that is there may hold other authorities too, so it is never replaced.
    private func provideTrust(_ file: String) throws(IdentityError) -> Issued.Trust {
        var own = try bundle()
        guard access(file, F_OK) != 0 else {
            let present = try IdentityFiles.readPublic(file)
            do throws(TLSSetupError) {
                let mine = try certificate.pem()
                for other in try Certificate.all(pem: present) where try other.pem() == mine { return .holdsAuthority }
                return .lacksAuthority(file)
            } catch { throw IdentityError(file, "\(error)") }
        }
        try IdentityFiles.write(file, SecretBytes(taking: &own), replaces: false)
        return .written(file)
    }
}
