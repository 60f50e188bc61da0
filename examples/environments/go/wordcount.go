// Package wordcount counts words.
package wordcount

import "strings"

// Count returns how often each word occurs, whatever its case.
func Count(text string) map[string]int {
	counts := map[string]int{}
	for _, word := range strings.Fields(strings.ToLower(text)) {
		counts[word]++
	}
	return counts
}
