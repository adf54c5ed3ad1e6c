// Sends with the client that ImmutableLog's Go guide prints; the argument says with which function.
//
// The functions named printed… are cut from the guide (usage.go), as is package immutablelog.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"printed/immutablelog"
)

func main() {
	client := printedClient()
	client.APIURL = os.Getenv("IMTBL_URL")
	ctx := context.Background()

	var errs []error
	switch os.Args[1] {
	case "send":
		errs = append(errs, client.Send(ctx, immutablelog.SendOpts{
			EventName: "user.registered", Type: "info", Payload: immutablelog.PrintedPayload(),
		}))
	case "async":
		printedAsync(client)
	case "retry":
		errs = append(errs, client.SendWithRetry(ctx, immutablelog.SendOpts{
			EventName: "invoice.paid", Type: "error", Payload: map[string]any{"note": "<Größe & 重さ>"},
		}, 6))
	case "batch":
		errs = printedBatch(client)
	case "fifty":
		errs = client.SendBatch(ctx, fifty())
	}
	for _, err := range errs {
		fmt.Println(err)
	}
	os.Stdout.Close()

	// SendAsync does not say when it is done: stay until the input is closed.
	io.Copy(io.Discard, os.Stdin)
}

func fifty() []immutablelog.SendOpts {
	events := make([]immutablelog.SendOpts, 50)
	for i := range events {
		events[i] = immutablelog.SendOpts{EventName: "order.created", Type: "success", Payload: i}
	}
	return events
}
