import HotKeyMitigation
import HotKeyRegistry
import HotKeyRules
import HotKeySimulation

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
