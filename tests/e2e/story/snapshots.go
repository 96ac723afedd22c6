package story

import (
	"context"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
)

// InstallSnapshots installs the CRDs of snapshots and their controller, as a
// cluster needs that came without, and waits until it runs.
func InstallSnapshots(ctx context.Context) error {
	if _, err := kubectl.Run(ctx, "apply", "--server-side", "-f", repository("deploy/snapshots.yaml")); err != nil {
		return err
	}
	_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "rollout", "status", "deployment/cairn-snapshot-controller", "--timeout=2m")
	return err
}

// InstallChangedBlocks installs what backup programs ask for changed blocks, and
// waits until it runs.
func InstallChangedBlocks(ctx context.Context) error {
	if _, err := kubectl.Run(ctx, "apply", "--server-side", "-f", repository("deploy/changed-blocks.yaml")); err != nil {
		return err
	}
	_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "rollout", "status", "deployment/cairn-snapshot-metadata", "--timeout=2m")
	return err
}
