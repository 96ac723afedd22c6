package host

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/cairn-storage/cairn/csi/fault"
)

// looked is how much of a device's beginning and end is looked at, in bytes: all
// that is known keeps something there.
const looked = 1 << 20

// CheckBlank refuses a device that holds data of no known format, which would be
// taken for an empty one, and formatted.
func (l *Linux) CheckBlank(device, filesystem string) error {
	format, err := l.mounter.GetDiskFormat(device)
	if err != nil {
		return fmt.Errorf("look at what %s holds: %w", device, err)
	}
	if format != "" {
		return nil // it is mounted, or refused, by that
	}
	size, err := l.DeviceSize(device)
	if err != nil {
		return err
	}
	f, err := os.Open(device)
	if err != nil {
		return fmt.Errorf("look at what %s holds: %w", device, err)
	}
	defer func() { _ = f.Close() }()
	for _, offset := range []int64{0, max(0, size-looked)} {
		zero, err := zeroes(f, offset)
		if err != nil {
			return fmt.Errorf("look at what %s holds: %w", device, err)
		}
		if !zero {
			return fault.Errorf(fault.Refused, "the image was not made by this driver and holds data of no known format: it is not formatted with %s. Use it as a raw block volume, or clear it first (blkdiscard)", filesystem)
		}
	}
	return nil
}

func zeroes(r io.ReaderAt, offset int64) (bool, error) {
	data, err := io.ReadAll(io.NewSectionReader(r, offset, looked))
	return len(bytes.Trim(data, "\x00")) == 0, err
}
