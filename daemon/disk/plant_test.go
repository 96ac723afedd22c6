package disk

import (
	"encoding/binary"
	"hash/crc32"
)

const testSector = 512

// gpt is the begin of a disk with a GUID partition table and no partitions:
// protective MBR, header, entries.
func gpt(size int64) []byte {
	const entries, entrySize, table = 128, 128, 2 * testSector
	disk := make([]byte, table+entries*entrySize)
	little := binary.LittleEndian
	last := uint64(size/testSector) - 1

	mbr := disk[446:]
	mbr[4] = 0xee
	little.PutUint32(mbr[8:], 1)
	little.PutUint32(mbr[12:], uint32(last))
	disk[510], disk[511] = 0x55, 0xaa

	header := disk[testSector : testSector+92]
	copy(header, "EFI PART")
	little.PutUint32(header[8:], 0x10000)
	little.PutUint32(header[12:], 92)
	little.PutUint64(header[24:], 1)
	little.PutUint64(header[32:], last)
	little.PutUint64(header[40:], 34)
	little.PutUint64(header[48:], last-33)
	copy(header[56:], "0123456789abcdef")
	little.PutUint64(header[72:], table/testSector)
	little.PutUint32(header[80:], entries)
	little.PutUint32(header[84:], entrySize)
	little.PutUint32(header[88:], crc32.ChecksumIEEE(disk[table:]))
	little.PutUint32(header[16:], crc32.ChecksumIEEE(header))
	return disk
}

// lvm is the sector that makes a disk a physical volume of LVM.
func lvm() []byte {
	sector := make([]byte, testSector)
	little := binary.LittleEndian
	copy(sector, "LABELONE")
	little.PutUint64(sector[8:], 1)
	little.PutUint32(sector[20:], 32)
	copy(sector[24:], "LVM2 001")
	copy(sector[32:], "abcdefghijklmnopqrstuvwxyz012345")
	// LVM's own start value, and no inversion at the end.
	const start = 0xf597a6cf
	little.PutUint32(sector[16:], ^crc32.Update(^uint32(start), crc32.IEEETable, sector[20:]))
	return sector
}
