@main
enum Meshctl {
    static func main() {}
}
