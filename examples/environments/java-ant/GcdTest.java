import static org.junit.Assert.assertEquals;

import org.junit.Test;

public class GcdTest {
    @Test
    public void ofSomeNumbers() {
        assertEquals(6, Gcd.gcd(54, 24));
        assertEquals(5, Gcd.gcd(0, -5));
    }
}
