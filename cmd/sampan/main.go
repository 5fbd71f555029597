// Command sampan turns a machine into a container cloud.
package main

func main() {}
