// Made by generate-vectors beside this file; do not edit.

/// `label ringName*weight …`; a label that stands again goes on.
let vectorNodeSets = """
    named alpha*1 beta*1 gamma*1
    weighted node-a*1 node-b*2 node-c*5 node-d*3
    unnamed 127.0.0.1:42301*1 127.0.0.1:42302*1 127.0.0.1:42303*2 127.0.0.2*1
    one only*3
    many 127.0.0.1:42301*1 127.0.0.1:42302*1 127.0.0.1:42303*1 127.0.0.1:42304*1 127.0.0.1:42305*1
    many 127.0.0.1:42306*1 127.0.0.1:42307*1 127.0.0.1:42308*1 127.0.0.1:42309*1 127.0.0.1:42310*1
    many 127.0.0.1:42311*1 127.0.0.1:42312*1 127.0.0.1:42313*1 127.0.0.1:42314*1 127.0.0.1:42315*1
    many 127.0.0.1:42316*1 127.0.0.1:42317*1 127.0.0.1:42318*1 127.0.0.1:42319*1 127.0.0.1:42320*1
    many 127.0.0.1:42321*1 127.0.0.1:42322*1 127.0.0.1:42323*1 127.0.0.1:42324*1 127.0.0.2*1
    uneven tiny*1 huge*200
    uneven nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn*7
    """
