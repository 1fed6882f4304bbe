package shim

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/cgshim/cgshim/shim/internal/jsonline"
)

// Every field, whatever is in it, is written as encoding/json writes it: one that is forgotten fails here.
func TestJSONByHand(t *testing.T) {
	check := func(r *Result) {
		t.Helper()
		for _, pretty := range []bool{false, true} {
			if got, want := r.encode(pretty), jsonline.Encode(r.exact(), pretty); !bytes.Equal(got, want) {
				t.Fatalf("got\n%s, want\n%s", got, want)
			}
		}
	}
	check(&Result{})
	check(newResult(&Config{Args: []string{"x"}}))
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		r := new(Result)
		fillValue(random, reflect.ValueOf(r).Elem())
		check(r)
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("\x00\b\f\n\r\t\x1f \"\\/<>&\x7f\u2028\u2029\ufffd\U0010ffff\xff\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, s string) {
		w := jsonWriter{}
		w.quote(s)
		if want := jsonline.Encode(s, false); string(w.b)+"\n" != string(want) {
			t.Errorf("%q: got %s, want %s", s, w.b, want)
		}
	})
}

// fillValue sets a value, and all that it holds, to something or nothing.
func fillValue(random *rand.Rand, v reflect.Value) {
	if random.IntN(4) == 0 {
		return // the zero value
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(random, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillValue(random, v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), random.IntN(4), 4))
		for i := range v.Len() {
			fillValue(random, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range random.IntN(4) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fillValue(random, key)
			fillValue(random, value)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		b := make([]byte, random.IntN(12))
		for i := range b {
			b[i] = byte(random.UintN(256))
		}
		v.SetString(string(b))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(random.Uint64()))
	case reflect.Uint64:
		v.SetUint(random.Uint64())
	case reflect.Float64:
		v.SetFloat(random.NormFloat64() * 1e5)
	default:
		panic("a kind of value that results have not had so far: " + v.Kind().String())
	}
}
