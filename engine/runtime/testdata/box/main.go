// Command box is what the tests run in containers: a few words it understands,
// static, without a shell.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := os.Args[1:]
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		next := func() string { a := args[0]; args = args[1:]; return a }
		switch word {
		case "cat":
			b, err := os.ReadFile(next())
			if err != nil {
				fmt.Println(err)
				continue
			}
			os.Stdout.Write(b)
		case "ls":
			e, err := os.ReadDir(next())
			if err != nil {
				fmt.Println(err)
				continue
			}
			for _, f := range e {
				fmt.Print(f.Name(), " ")
			}
			fmt.Println()
		case "write":
			path, text := next(), next()
			fmt.Println("write", path, os.WriteFile(path, []byte(text), 0o644))
		case "echo":
			fmt.Println(next())
		case "error":
			fmt.Fprintln(os.Stderr, next())
		case "hostname":
			h, _ := os.Hostname()
			fmt.Println(h)
		case "pid":
			fmt.Println(os.Getpid())
		case "id":
			g, _ := os.Getgroups()
			fmt.Println(os.Getuid(), os.Getgid(), g)
		case "cwd":
			d, _ := os.Getwd()
			fmt.Println(d)
		case "env":
			fmt.Println(os.Getenv(next()))
		case "links":
			i, _ := net.Interfaces()
			for _, l := range i {
				fmt.Print(l.Name, " ")
			}
			fmt.Println()
		case "tty":
			var ws [4]uint16
			_, _, e := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, ptr(&ws))
			fmt.Println("tty", e == 0, ws[1], ws[0])
		case "unshare":
			fmt.Println("unshare", syscall.Unshare(syscall.CLONE_NEWNS))
		case "eat":
			n, _ := strconv.Atoi(next())
			b := make([]byte, n<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			fmt.Println("ate", len(b))
		case "fork":
			n, _ := strconv.Atoi(next())
			for range n {
				if _, err := syscall.ForkExec("/proc/self/exe", []string{"box", "forever"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}}); err != nil {
					fmt.Println("fork", err)
				}
			}
		case "forever":
			fmt.Println("ready")
			select {
			case <-time.After(time.Hour):
			}
		case "until-term":
			ch := make(chan os.Signal, 1)
			signal.Notify(ch, syscall.SIGTERM)
			fmt.Println("ready")
			<-ch
			fmt.Println("term")
		case "copy":
			io.Copy(os.Stdout, os.Stdin)
			fmt.Println("eof")
		case "last-words": // a line without an end, then silence, then the end
			fmt.Print("green")
			os.Stdout.Close()
			os.Stderr.Close()
			time.Sleep(10 * time.Millisecond)
		case "count":
			n, _ := strconv.Atoi(next())
			for i := range n {
				fmt.Println("line", i, strings.Repeat("x", 100))
			}
		case "tick":
			for i := 0; ; i++ {
				fmt.Println("tick", i)
				time.Sleep(5 * time.Millisecond)
			}
		case "exit":
			n, _ := strconv.Atoi(next())
			os.Exit(n)
		default:
			fmt.Println("box does not know", word)
			os.Exit(3)
		}
	}
}
