package org.example;

/** Leap years of the Gregorian calendar. */
public final class Leap {
    private Leap() {}

    public static boolean isLeap(int year) {
        return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    }
}
