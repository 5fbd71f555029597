package resource

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// deviceVariable is the variable of expressions that choose devices, as KEP-4381 and
// KEP-5075 have it.
const deviceVariable = "device"

// environmentOfDevices is made when the first expression comes: few clusters
// have one.
var environmentOfDevices = sync.OnceValues(func() (*celgo.Env, error) {
	bounded := func(t *cel.DeclType, most int64) *cel.DeclType {
		b := *t
		b.MaxElements = most
		return &b
	}
	// By domain, then by name.
	twofold := func(value *cel.DeclType) *cel.DeclType {
		const most = resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice
		named := cel.NewMapType(bounded(cel.StringType, resourcev1.DeviceMaxIDLength), value, most)
		return cel.NewMapType(bounded(cel.StringType, resourcev1.DeviceMaxDomainLength), named, most)
	}
	fields := map[string]*cel.DeclField{}
	for name, t := range map[string]*cel.DeclType{
		"driver":                   bounded(cel.StringType, resourcev1.DriverNameMaxLength),
		"allowMultipleAllocations": bounded(cel.BoolType, 1),
		"attributes":               twofold(bounded(cel.AnyType, resourcev1.DeviceAttributeMaxValueLength)),
		"capacity":                 twofold(cel.QuantityDeclType),
	} {
		fields[name] = cel.NewDeclField(name, t, true, nil, nil)
	}
	device := cel.NewObjectType("kubernetes.DRADevice", fields)
	set, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 31),
		EnvOptions:        []celgo.EnvOption{ext.Bindings(ext.BindingsVersion(0)), celgo.Variable(deviceVariable, device.CelType())},
		DeclTypes:         []*cel.DeclType{device},
	})
	if err != nil {
		return nil, err
	}
	return set.Env(environment.NewExpressions)
})

// expression checks that an expression that chooses devices is one, and says
// yes or no. What it may cost is not estimated.
func expression(text string, path *field.Path) field.ErrorList {
	env, err := environmentOfDevices()
	if err != nil {
		return field.ErrorList{field.InternalError(path, fmt.Errorf("unexpected error loading CEL environment: %w", err))}
	}
	ast, issues := env.Compile(text)
	if issues != nil {
		return field.ErrorList{field.Invalid(path, text, "compilation failed: "+issues.String())}
	}
	may := []*celgo.Type{celgo.BoolType, celgo.AnyType} // an attribute alone may be a bool
	if t := ast.OutputType(); !slices.ContainsFunc(may, t.IsExactType) {
		return field.ErrorList{field.Invalid(path, text, fmt.Sprintf("must evaluate to %v or the unknown type, not %v", celgo.BoolType, t))}
	}
	if _, err := env.Program(ast); err != nil {
		return field.ErrorList{field.InternalError(path, errors.New("program instantiation failed: "+err.Error()))}
	}
	return nil
}
