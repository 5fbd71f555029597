// Command program is what runs inside the containers of the engine's tests: a
// static program with a word for each thing a test wants to see or do.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	word, args := "", os.Args[1:]
	if len(args) > 0 {
		word, args = args[0], args[1:]
	}
	switch word {
	case "", "true":
	case "echo":
		fmt.Println(strings.Join(args, " "))
	case "complain":
		fmt.Fprintln(os.Stderr, strings.Join(args, " "))
	case "exit":
		code := 0
		fmt.Sscan(args[0], &code)
		os.Exit(code)
	case "cat":
		if len(args) == 0 {
			_, _ = io.Copy(os.Stdout, os.Stdin)
		}
		for _, name := range args {
			b, err := os.ReadFile(name)
			must(err)
			os.Stdout.Write(b)
		}
	case "write":
		must(os.WriteFile(args[0], []byte(args[1]), 0o644))
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "who":
		groups, _ := os.Getgroups()
		host, _ := os.Hostname()
		wd, _ := os.Getwd()
		fmt.Println(os.Getuid(), os.Getgid(), groups, host, os.Getpid(), wd)
	case "wait": // for SIGTERM, and exit with 3
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		<-c
		os.Exit(3)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGUSR2) // so that the Go runtime sees no deadlock
		<-c
	case "serve":
		l, err := net.Listen("tcp", ":"+args[0])
		must(err)
		fmt.Println("ready")
		for {
			c, err := l.Accept()
			must(err)
			_, _ = io.WriteString(c, "hello\n")
			c.Close()
		}
	default:
		fmt.Fprintln(os.Stderr, "what is", word)
		os.Exit(2)
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
