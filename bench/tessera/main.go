// A front for Tessera's POSIX log, to be measured beside Indelible: the same load over HTTP/1.1, the
// same bytes as opaque entries, an answer when they are synced and integrated.
//
// A body is one entry, or with the header X-Frames many: each after its length in four bytes,
// big-endian. Listens on loopback, and ends when its standard input does.
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	badger "github.com/transparency-dev/tessera/storage/posix/antispam"
	"golang.org/x/mod/sumdb/note"
)

const answer = `{"status":1}`

func main() {
	port := flag.Int("port", 0, "listen on 127.0.0.1 at this port")
	folder := flag.String("folder", "", "keep the log here")
	size := flag.Uint("size", 64, "entries that are sequenced together")
	age := flag.Duration("age", 5*time.Millisecond, "the longest that an entry waits for company")
	antispam := flag.Bool("antispam", false, "recognise entries that were added before")
	flag.Parse()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	appender := open(ctx, *folder, *size, *age, *antispam)
	server := &http.Server{
		Addr:              fmt.Sprintf("127.0.0.1:%d", *port),
		ReadHeaderTimeout: 5 * time.Second,
		Handler:           handler(appender),
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(server.ListenAndServe())
}

func open(ctx context.Context, folder string, size uint, age time.Duration, antispam bool) *tessera.Appender {
	secret, _, err := note.GenerateKey(rand.Reader, "bench.example/log")
	fatal(err)
	signer, err := note.NewSigner(secret)
	fatal(err)
	driver, err := posix.New(ctx, posix.Config{Path: folder})
	fatal(err)
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(time.Second).
		WithBatching(size, age)
	if antispam {
		seen, err := badger.NewAntispam(ctx, filepath.Join(folder, ".antispam"), badger.AntispamOpts{})
		fatal(err)
		options = options.WithAntispam(tessera.DefaultAntispamInMemorySize, seen)
	}
	appender, _, _, err := tessera.NewAppender(ctx, driver, options)
	fatal(err)
	return appender
}

func handler(appender *tessera.Appender) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		entries := [][]byte{body}
		if r.Header.Get("X-Frames") != "" {
			if entries, err = framed(body); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		futures := make([]tessera.IndexFuture, len(entries))
		for i, entry := range entries {
			futures[i] = appender.Add(r.Context(), tessera.NewEntry(entry))
		}
		for _, future := range futures {
			if _, err := future(); err != nil {
				status := http.StatusInternalServerError
				if errors.Is(err, tessera.ErrPushback) {
					status = http.StatusServiceUnavailable
				}
				http.Error(w, err.Error(), status)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		_, _ = io.WriteString(w, answer)
	})
}

func framed(body []byte) ([][]byte, error) {
	var entries [][]byte
	for len(body) > 0 {
		if len(body) < 4 {
			return nil, errors.New("a length is cut off")
		}
		length := binary.BigEndian.Uint32(body)
		body = body[4:]
		if uint64(length) > uint64(len(body)) {
			return nil, errors.New("an entry is cut off")
		}
		entries = append(entries, body[:length])
		body = body[length:]
	}
	return entries, nil
}

func fatal(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
