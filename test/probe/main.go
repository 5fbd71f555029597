// Command probe is what the tests run in containers: a small program that
// serves, fails, writes and looks as it is told.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if filepath.Base(os.Args[0]) == "tar" {
		os.Args = append([]string{os.Args[0], "tar"}, os.Args[1:]...)
	}
	if len(os.Args) < 2 {
		serve()
		return
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(word string, args []string) error {
	switch word {
	case "serve":
		serve()
	case "true":
	case "exit": // with a code, after saying why
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		fmt.Println(strings.Join(args[1:], " "))
		os.Exit(code)
	case "sleep":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		time.Sleep(d)
	case "env":
		for _, name := range args {
			fmt.Printf("%s=%s\n", name, os.Getenv(name))
		}
	case "cat":
		for _, name := range args {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			os.Stdout.Write(data)
		}
	case "write":
		return os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")), 0o644)
	case "count": // a line each 100 ms
		for i := 0; ; i++ {
			fmt.Println("line", i)
			time.Sleep(100 * time.Millisecond)
		}
	case "get": // a URL
		c := http.Client{Timeout: 2 * time.Second}
		res, err := c.Get(args[0])
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, err = io.Copy(os.Stdout, res.Body)
		return err
	case "lookup":
		ips, err := net.DefaultResolver.LookupHost(context.Background(), args[0])
		fmt.Println(strings.Join(ips, " "))
		return err
	case "tar": // what kubectl cp runs
		return tarfile(args)
	case "echo":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "eat": // megabytes
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		b := make([]byte, n<<20)
		for i := range b {
			b[i] = 1
		}
		fmt.Println(len(b))
	default:
		return exec.ErrNotFound
	}
	return nil
}

// serve answers with the host's name and the image; after SIGTERM it goes on
// for a moment, as a well-behaved server does.
func serve() {
	host, err := os.Hostname()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s %s\n", host, os.Getenv("IMAGE"))
	})
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	over := make(chan struct{})
	go func() {
		defer close(over)
		<-ctx.Done()
		time.Sleep(2 * time.Second)
		last, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(last)
	}()
	fmt.Println("serving as", host)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-over
}
