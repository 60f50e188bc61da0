package org.example;

import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertTrue;

import org.junit.Test;

public class LeapTest {
    @Test
    public void centuries() {
        assertTrue(Leap.isLeap(2000));
        assertFalse(Leap.isLeap(1900));
    }
}
