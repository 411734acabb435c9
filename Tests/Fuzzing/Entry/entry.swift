import FuzzTargets
import Glibc

// What libFuzzer calls. The target is the name that the program was started by, so one build serves all.

nonisolated(unsafe) private var target = FuzzTarget.frames

@_cdecl("LLVMFuzzerInitialize")
public func initialize(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>>>
) -> CInt {
    let path = String(cString: arguments.pointee.pointee)
    let name = path.split(separator: "/").last.map(String.init) ?? path
    guard let named = FuzzTarget(rawValue: name) else {
        perror("no fuzz target \(name)")
        exit(2)
    }
    target = named
    return 0
}

@_cdecl("LLVMFuzzerTestOneInput")
public func test(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    target.run(UnsafeRawBufferPointer(start: bytes, count: count))
    return 0
}
