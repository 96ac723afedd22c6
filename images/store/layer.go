package store

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// leftOut are the directories of a root whose content is of the machine that
// made it, or of no use in an image; they are kept, empty. Of withoutFiles the
// directories within are kept too: daemons expect theirs, with its owner.
var (
	leftOut      = []string{"dev", "proc", "sys", "tmp", "var/tmp", "var/cache", "var/lib/apt/lists"}
	withoutFiles = []string{"run", "var/log"}
)

// fileTime is the time of files that are not of a package.
var fileTime = time.Unix(1, 0)

// RootLayer packs a root filesystem. The root's path names its content (see
// images/root), so that a layer is packed once for a path.
func (s *Store) RootLayer(root string) (v1.Descriptor, error) {
	known := filepath.Join(s.dir, "layers", filepath.Base(root)+".json")
	var layer v1.Descriptor
	if err := readJSON(known, &layer); err == nil {
		if _, err := os.Stat(s.BlobPath(layer.Digest)); err == nil {
			return layer, nil
		}
	}
	newest, err := newestPackaged(root)
	if err != nil {
		return layer, err
	}
	layer, err = s.putBlob(types.OCIUncompressedLayer, func(w io.Writer) error {
		return packRoot(w, root, newest)
	})
	if err != nil {
		return layer, fmt.Errorf("pack %s: %w", root, err)
	}
	data, err := json.Marshal(layer)
	if err != nil {
		return layer, fmt.Errorf("encode layer: %w", err)
	}
	return layer, writeFile(known, data)
}

// FileLayer packs one file, SOURCE:TARGET, executable and owned by root. Each file
// is a layer of its own, so that a node fetches only those that changed.
func (s *Store) FileLayer(file string) (v1.Descriptor, error) {
	source, target, ok := strings.Cut(file, ":")
	if !ok || !path.IsAbs(target) {
		return v1.Descriptor{}, fmt.Errorf("file %q: want SOURCE:TARGET with an absolute target", file)
	}
	return s.putBlob(types.OCIUncompressedLayer, func(w io.Writer) error {
		archive := tar.NewWriter(w)
		if err := packFile(archive, source, target); err != nil {
			return err
		}
		return archive.Close()
	})
}

func packFile(archive *tar.Writer, source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	header := &tar.Header{
		Name: strings.TrimPrefix(target, "/"), Mode: 0o755, Size: info.Size(),
		ModTime: fileTime, Typeflag: tar.TypeReg, Format: tar.FormatPAX,
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	return copyFile(archive, source)
}

func packRoot(w io.Writer, root string, newest time.Time) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	archive := tar.NewWriter(buffered)
	linked := map[uint64]string{}
	err := filepath.WalkDir(root, func(full string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, full)
		if err != nil || name == "." {
			return err
		}
		if isIn(path.Dir(name), leftOut) || !entry.IsDir() && isIn(path.Dir(name), withoutFiles) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return packEntry(archive, full, name, newest, linked)
	})
	if err := errors.Join(err, archive.Close()); err != nil {
		return err
	}
	return buffered.Flush()
}

func isIn(dir string, parents []string) bool {
	for _, parent := range parents {
		if dir == parent || strings.HasPrefix(dir, parent+"/") {
			return true
		}
	}
	return false
}

func packEntry(archive *tar.Writer, full, name string, newest time.Time, linked map[uint64]string) error {
	info, err := os.Lstat(full)
	if err != nil {
		return err
	}
	if info.Mode()&(fs.ModeSocket|fs.ModeDevice|fs.ModeNamedPipe) != 0 {
		return nil
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(full); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name = name
	header.Format = tar.FormatPAX
	header.Uname, header.Gname = "", ""
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	header.ModTime = info.ModTime().Truncate(time.Second)
	if header.ModTime.After(newest) {
		header.ModTime = newest
	}
	if info.IsDir() {
		header.Name += "/"
		header.ModTime = newest
	}
	if !info.Mode().IsRegular() {
		return archive.WriteHeader(header)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
		if first, seen := linked[stat.Ino]; seen {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
			return archive.WriteHeader(header)
		}
		linked[stat.Ino] = name
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	return copyFile(archive, full)
}

func copyFile(w io.Writer, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	_, err = io.Copy(w, file)
	return err
}

// newestPackaged is the latest time of a Python source: later times are those
// of the root's making, different each time. Python's compiled files hold their
// source's time, so these times must stay what they were.
func newestPackaged(root string) (time.Time, error) {
	newest := fileTime
	err := filepath.WalkDir(filepath.Join(root, "usr"), func(full string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(full, ".py") {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().IsRegular() && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return err
	})
	if err != nil {
		return newest, fmt.Errorf("look at %s: %w", root, err)
	}
	return newest.Truncate(time.Second), nil
}
