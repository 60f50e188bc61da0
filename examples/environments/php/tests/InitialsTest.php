<?php

use Example\Initials;
use PHPUnit\Framework\TestCase;

final class InitialsTest extends TestCase
{
    public function testOfSomeNames(): void
    {
        $this->assertSame('ÉZ', Initials::of('émile  zola'));
        $this->assertSame('', Initials::of(' '));
    }
}
