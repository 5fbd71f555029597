package linux

import "testing"

func TestAProgramThatForgotItsCodeGoesOn(t *testing.T) {
	table := map[string]int{"a": 1}
	for range 3 {
		if err := ForgetCode(); err != nil {
			t.Fatal(err)
		}
		table["b"]++
	}
	if table["a"] != 1 || table["b"] != 3 {
		t.Errorf("data is %v after its code was forgotten", table)
	}
}
