package programs

// reasons are why a script of testdata/tools prints other lines (below a
// heading) with Claviger's module than with SoftHSM2's.
var reasons = map[string]string{}
