/** The greatest common divisor. */
public final class Gcd {
    private Gcd() {}

    public static long gcd(long a, long b) {
        return b == 0 ? Math.abs(a) : gcd(b, a % b);
    }
}
