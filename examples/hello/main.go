// Command hello answers every request with its own name, so that one sees
// which pod it was. It is the example of the README.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	host, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	greeting := os.Getenv("GREETING")
	if greeting == "" {
		greeting = "Hello from Sampan"
	}
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s, this is %s\n", greeting, host)
		})}

	// A pod that ends goes on answering for a moment: connections that were
	// on their way when it left its service still find it.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	over := make(chan struct{})
	go func() {
		defer close(over)
		<-ctx.Done()
		time.Sleep(2 * time.Second)
		last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(last); err != nil {
			log.Print("shutdown: ", err)
		}
	}()
	log.Print("listening on ", server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-over
}
