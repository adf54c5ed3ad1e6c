// Verify checks the log in the folder log with golang.org/x/mod/sumdb alone: go run . [vkey]
//
// It exits 0 when every record, every tile and the signed checkpoint are of one tree, else 1.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const width = 256 // hashes in a full tile, records in a full bundle

func main() {
	vkey := strings.TrimSpace(string(read("log.vkey")))
	if len(os.Args) > 1 {
		vkey = os.Args[1] // one that you had from elsewhere is worth more than the folder's own
	}
	tree := open("log/checkpoint", vkey)

	// From the records upwards: every hash of the tree.
	var records [][]byte
	var hashes memory
	for n := int64(0); n*width < tree.N; n++ {
		bundle := tlog.Tile{H: 8, L: -1, N: n, W: int(min(width, tree.N-n*width))}
		for _, record := range split(bundle) {
			more, err := tlog.StoredHashes(int64(len(records)), record, hashes)
			check("records", err)
			records, hashes = append(records, record), append(hashes, more...)
		}
	}
	root, err := tlog.TreeHash(tree.N, hashes)
	check("records", err)
	for _, tile := range tlog.NewTiles(8, 0, tree.N) {
		data, err := tlog.ReadTileData(tile, hashes)
		check("tiles", err)
		if root == tree.Hash && !bytes.Equal(data, read(path(tile))) {
			fail("%s is not what the records give", path(tile))
		}
	}

	// From the checkpoint downwards: every record by its tiles.
	tiles := tlog.TileHashReader(tree, folder{})
	for start := 0; start < len(records); start += width {
		var indexes []int64
		for i := start; i < min(start+width, len(records)); i++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, int64(i)))
		}
		held, err := tiles.ReadHashes(indexes)
		check("neither the records nor the tiles have the root of the checkpoint", err)
		for i, hash := range held {
			if hash != tlog.RecordHash(records[start+i]) {
				bundle := tlog.Tile{H: 8, L: -1, N: int64(start / width), W: len(held)}
				fail("record %d in %s is not the one that was signed", start+i, path(bundle))
			}
		}
	}

	// The witnesses' checkpoint is the beginning of the newest one.
	if _, err := os.Stat("log/witnessed"); err == nil {
		old := open("log/witnessed", vkey)
		if old.N > 0 {
			proof, err := tlog.ProveTree(tree.N, old.N, hashes)
			check("log/witnessed", err)
			check("log/witnessed", tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash))
		}
	}

	// Every record by a proof of its own: by far the longest, and so the last.
	for i, record := range records {
		proof, err := tlog.ProveRecord(tree.N, int64(i), hashes)
		check("records", err)
		err = tlog.CheckRecord(proof, tree.N, tree.Hash, int64(i), tlog.RecordHash(record))
		check(fmt.Sprint("record ", i), err)
	}
	fmt.Printf("verified: %d records, root %v\n", tree.N, tree.Hash)
}

// open reads a checkpoint: origin, size and root, signed by the key whose name is the origin.
func open(name, vkey string) (tree tlog.Tree) {
	key, err := note.NewVerifier(vkey)
	check("log.vkey", err)
	signed, err := note.Open(read(name), note.VerifierList(key))
	check(name, err)
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 || lines[0] != key.Name() {
		fail("%s is not of the log %s", name, key.Name())
	}
	tree.N, err = strconv.ParseInt(lines[1], 10, 64)
	check(name, err)
	tree.Hash, err = tlog.ParseHash(lines[2])
	check(name, err)
	return tree
}

// split reads the records of a bundle: a length of two bytes, big-endian, before each.
func split(bundle tlog.Tile) (records [][]byte) {
	for data := read(path(bundle)); len(data) > 0; {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			fail("%s is cut short within record %d of it", path(bundle), len(records))
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		records, data = append(records, data[2:end]), data[end:]
	}
	if len(records) != bundle.W {
		fail("%s has %d records, not %d", path(bundle), len(records), bundle.W)
	}
	return records
}

// memory holds hashes by their storage index.
type memory []tlog.Hash

func (m memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		found[i] = m[index]
	}
	return found, nil
}

// folder reads tiles of height 8.
type folder struct{}

func (folder) Height() int                         { return 8 }
func (folder) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(tiles))
	for i, tile := range tiles {
		found[i] = read(path(tile))
	}
	return found, nil
}

// path is where C2SP tlog-tiles puts a tile: as in Go, without the height and with another word.
func path(tile tlog.Tile) string {
	path := strings.Replace(tile.Path(), "tile/8/", "log/tile/", 1)
	return strings.Replace(path, "tile/data/", "tile/entries/", 1)
}

func read(name string) []byte {
	data, err := os.ReadFile(name)
	check("read", err)
	return data
}

func check(what string, err error) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "FAILED: "+format+"\n", values...)
	os.Exit(1)
}
