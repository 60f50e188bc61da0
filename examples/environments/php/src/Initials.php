<?php

namespace Example;

final class Initials
{
    public static function of(string $name): string
    {
        $words = preg_split('/\s+/', trim($name), -1, PREG_SPLIT_NO_EMPTY);
        return implode('', array_map(fn ($word) => mb_strtoupper(mb_substr($word, 0, 1)), $words));
    }
}
