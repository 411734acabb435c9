@main
enum Meshd {
    static func main() {}
}
