"""What stands above classes and functions: inputs, interned values, queries, databases.

==============  =====================================================================
`fields`        fields, how record classes are made, how arguments are matched
`input`         `Input`, `Singleton`, and `@input`
`interned`      `Interned`, and `@interned`
`tracked`       `@tracked`
`db`            `@db`
==============  =====================================================================
"""
