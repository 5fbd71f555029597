package runtime

func starter() {}
