/// The version that meshd, the proxy and meshctl report.
package enum ProductVersion {
    package static let text = "0.1.0"
}
