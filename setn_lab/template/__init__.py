"""The weight-sharing template network (section 4.1): Eq. 1 and Eq. 10."""
