// Checks what a server hands out with golang.org/x/mod/sumdb alone, and says on stderr what is wrong.
//
//	stranger record VKEY RECEIPT          a .tlog-proof: its leaf is in the tree that the log signed
//	stranger tree VKEY OLD NEW PROOF      two checkpoints: one is the beginning of the other
//
// PROOF has a hash in base64 on each line.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	switch vkey := os.Args[2]; os.Args[1] {
	case "record":
		record(vkey, read(os.Args[3]))
	case "tree":
		old, tree := open(vkey, read(os.Args[3])), open(vkey, read(os.Args[4]))
		proof := tlog.TreeProof(hashes(strings.Fields(read(os.Args[5]))))
		check("consistency", tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash))
		fmt.Println("the tree of", old.N, "is the beginning of the tree of", tree.N)
	}
}

func record(vkey, receipt string) {
	head, checkpoint, _ := strings.Cut(receipt, "\n\n")
	lines := strings.Split(head, "\n")
	if len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		fail("receipt: this is not one")
	}
	extra, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	check("extra", err)
	var opening struct{ Leaf []byte }
	check("extra", json.Unmarshal(extra, &opening))
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	check("index", err)
	tree := open(vkey, checkpoint)
	proof := tlog.RecordProof(hashes(lines[3:]))
	check("inclusion", tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(opening.Leaf)))
	fmt.Println("record", index, "is in the tree of", tree.N)
}

func open(vkey, text string) (tree tlog.Tree) {
	key, err := note.NewVerifier(vkey)
	check("key", err)
	signed, err := note.Open([]byte(text), note.VerifierList(key))
	check("signature", err)
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[0] != key.Name() {
		fail("checkpoint: not of %s", key.Name())
	}
	tree.N, err = strconv.ParseInt(lines[1], 10, 64)
	check("checkpoint", err)
	tree.Hash, err = tlog.ParseHash(lines[2])
	check("checkpoint", err)
	return tree
}

func hashes(lines []string) (found []tlog.Hash) {
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		check("hash", err)
		found = append(found, hash)
	}
	return found
}

func read(name string) string {
	data, err := os.ReadFile(name)
	check("read", err)
	return string(data)
}

func check(what string, err error) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}
