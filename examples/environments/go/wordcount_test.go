package wordcount

import "testing"

func TestCount(t *testing.T) {
	got := Count("A rose is a rose")
	if got["a"] != 2 || got["rose"] != 2 || got["is"] != 1 {
		t.Errorf("Count: %v", got)
	}
}
