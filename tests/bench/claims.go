package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cairn-storage/cairn/tests/bench/result"
	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
)

const manyClaims = 1000

// claims measures how fast many claims become volumes, and how fast these go.
func claims(ctx context.Context, b *bench) (entries []result.Entry, err error) {
	if err := b.story(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	var manifests strings.Builder
	for i := range manyClaims {
		manifests.WriteString(claim(fmt.Sprintf("%s-many-%d", made, i)))
	}
	began := time.Now()
	// Several at once: one kubectl makes about forty claims a second.
	if err := applyParts(ctx, manifests.String(), 8); err != nil {
		return nil, err
	}
	applied := time.Since(began).Seconds()
	if err := allBound(ctx); err != nil {
		return nil, err
	}
	bound := time.Since(began).Seconds()
	b.say("%d claims are bound after %.1f s, %.1f s of it until all were accepted", manyClaims, bound, applied)
	began = time.Now()
	if _, err := kubectl.Run(ctx, "-n", namespace, "delete", "persistentvolumeclaims", "-l", "app="+made, "--wait=false"); err != nil {
		return nil, err
	}
	asked := time.Since(began).Seconds()
	if err := volumesGone(ctx); err != nil {
		return nil, err
	}
	gone := time.Since(began).Seconds()
	b.say("their volumes are gone after %.1f s, %.1f s of it until all were asked for", gone, asked)
	return []result.Entry{
		result.New("claims", "claims_bound_per_s_1000", "1/s", manyClaims/bound,
			"%d claims from the first apply to the last bound: %.3g s, of it %.3g s until kubectl had made them", manyClaims, bound, applied),
		result.New("claims", "claims_gone_per_s_1000", "1/s", manyClaims/gone,
			"from the delete of %d claims until no volume is left: %.3g s, of it %.3g s until kubectl had asked", manyClaims, gone, asked),
	}, nil
}

// allBound waits until every claim is bound. "kubectl wait" would take a tenth of a
// second for each, bound or not.
func allBound(ctx context.Context) error {
	return kubectl.Until(ctx, fmt.Sprintf("%d claims to be bound", manyClaims), func() (bool, string) {
		phases, err := kubectl.Run(ctx, "-n", namespace, "get", "persistentvolumeclaims", "-l", "app="+made, "-o", "jsonpath={.items[*].status.phase}")
		if err != nil {
			return false, err.Error()
		}
		bound := strings.Count(phases, "Bound")
		return bound == manyClaims, fmt.Sprintf("%d are", bound)
	})
}

// applyParts applies manifests by several kubectl at once.
func applyParts(ctx context.Context, manifests string, parts int) error {
	documents := strings.SplitAfter(manifests, "\n---\n")
	done := make(chan error, parts)
	for part := range parts {
		var mine strings.Builder
		for i := part; i < len(documents); i += parts {
			mine.WriteString(documents[i])
		}
		go func() { done <- create(ctx, mine.String()) }()
	}
	var failed error
	for range parts {
		if err := <-done; err != nil {
			failed = err
		}
	}
	return failed
}

func create(ctx context.Context, yaml string) error {
	_, err := kubectl.RunWith(ctx, yaml, "-n", namespace, "create", "-f", "-")
	return err
}
