/// The one place that says which version this is.
public enum HotKeyVersion {
    public static let current = "0.1.0"
}
